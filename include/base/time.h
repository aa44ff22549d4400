#pragma once

/*
 * Time in microseconds, and where it comes from. Decisions never read a clock: they take `now`.
 * Shells read it from a Clock, which tests replace.
 *
 * BOOTTIME counts what must count while suspended (leases, ages), MONOTONIC everything else that
 * waits, REALTIME is for people to read only and is never compared.
 */

#include <stdint.h>
#include <time.h>

typedef uint64_t usec_t;

#define USEC_INFINITY UINT64_MAX
#define SEC(n)        (UINT64_C(1000000) * (n))
#define MSEC(n)       (UINT64_C(1000) * (n))

/* A source of time. NULL in place of one means the real clocks. */
typedef struct Clock {
        usec_t (*now)(void *userdata, clockid_t which);
        void *userdata;
} Clock;

usec_t clock_read(const Clock *clock, clockid_t which);

#define TIME_RFC3339_SIZE 21 /* "2026-08-01T12:00:00Z" and a NUL */

/* REALTIME as RFC 3339 in UTC, whole seconds. */
void time_format(usec_t realtime_usec, char ret[TIME_RFC3339_SIZE]);

/* 0, -EINVAL. Accepts exactly what time_format() writes. */
int time_parse(const char *text, usec_t *ret);

/* "250ms", "5s", "10m", "2h", "1d", or a bare number of seconds ("0.5" too). 0, -EINVAL, -ERANGE.
 */
int time_parse_span(const char *text, usec_t *ret);

/* A span for people: "850 ms", "12 s", "3 min 20 s", "2 h 5 min", "4 d 3 h". ret has room for 32
 * bytes. */
void time_format_span(usec_t span, char ret[32]);

/* "YYYYMMDDTHHMMSSZ-8hex": ids of deploys, revisions and the like. ret has room for 32 bytes. */
void time_make_id(usec_t realtime_usec, uint32_t random, char ret[32]);
