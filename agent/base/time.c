#include "base/time.h"

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#define TIME_LAST_SEC                                                                              \
        INT64_C(253402300799) /* 9999-12-31T23:59:59Z: four digits of a year end there */

usec_t clock_read(const Clock *clock, clockid_t which) {
        struct timespec ts;

        if (clock)
                return clock->now(clock->userdata, which);
        if (clock_gettime(which, &ts) < 0)
                return 0;
        return SEC((usec_t) ts.tv_sec) + (usec_t) ts.tv_nsec / 1000;
}

static void break_down(usec_t realtime_usec, struct tm *ret) {
        time_t t = (time_t) (realtime_usec / SEC(1));

        if (t > TIME_LAST_SEC)
                t = TIME_LAST_SEC;
        (void) gmtime_r(&t, ret);
}

void time_format(usec_t realtime_usec, char ret[TIME_RFC3339_SIZE]) {
        struct tm tm;

        break_down(realtime_usec, &tm);
        (void) strftime(ret, TIME_RFC3339_SIZE, "%Y-%m-%dT%H:%M:%SZ", &tm);
}

/* As many digits as the pattern has 0s, and the rest literally; numbers in order of the text. */
static bool match_digits(const char *text, const char *pattern, int ret[]) {
        int n = -1;
        bool inside = false;

        if (strlen(text) != strlen(pattern))
                return false;

        for (; *pattern; text++, pattern++) {
                if (*pattern != '0') {
                        if (*text != *pattern)
                                return false;
                        inside = false;
                        continue;
                }
                if (*text < '0' || *text > '9')
                        return false;
                if (!inside)
                        ret[++n] = 0;
                inside = true;
                ret[n] = ret[n] * 10 + (*text - '0');
        }
        return true;
}

int time_parse(const char *text, usec_t *ret) {
        char again[TIME_RFC3339_SIZE];
        struct tm tm = { 0 };
        time_t t;
        int v[6];

        if (!text || !match_digits(text, "0000-00-00T00:00:00Z", v))
                return -EINVAL;

        tm.tm_year = v[0] - 1900;
        tm.tm_mon = v[1] - 1;
        tm.tm_mday = v[2];
        tm.tm_hour = v[3];
        tm.tm_min = v[4];
        tm.tm_sec = v[5];
        t = timegm(&tm);
        if (t < 0)
                return -EINVAL;

        /* timegm() turns February 30 into March 2: only a date that reads the same again is one. */
        time_format(SEC((usec_t) t), again);
        if (strcmp(again, text) != 0)
                return -EINVAL;

        *ret = SEC((usec_t) t);
        return 0;
}

static usec_t unit_usec(const char *unit) {
        static const struct {
                const char *name;
                usec_t usec;
        } units[] = {
                { "", SEC(1) },   { "ms", MSEC(1) },  { "s", SEC(1) },
                { "m", SEC(60) }, { "h", SEC(3600) }, { "d", SEC(86400) },
        };
        size_t i;

        for (i = 0; i < sizeof(units) / sizeof(units[0]); i++)
                if (strcmp(units[i].name, unit) == 0)
                        return units[i].usec;
        return 0;
}

int time_parse_span(const char *text, usec_t *ret) {
        uint64_t whole = 0, fraction = 0, scale = 1;
        bool too_large = false;
        usec_t unit, usec;
        size_t n_digits = 0;
        const char *p = text;

        for (; *p >= '0' && *p <= '9'; p++, n_digits++)
                if (__builtin_mul_overflow(whole, 10U, &whole) ||
                    __builtin_add_overflow(whole, (uint64_t) (*p - '0'), &whole))
                        too_large = true;
        if (n_digits == 0)
                return -EINVAL;

        if (*p == '.') {
                if (p[1] < '0' || p[1] > '9')
                        return -EINVAL;
                /* Further digits of the fraction are below what a span can hold. */
                for (p++; *p >= '0' && *p <= '9'; p++)
                        if (scale < 1000000) {
                                fraction = fraction * 10 + (uint64_t) (*p - '0');
                                scale *= 10;
                        }
        }

        unit = unit_usec(p);
        if (unit == 0)
                return -EINVAL;
        if (too_large || __builtin_mul_overflow(whole, unit, &usec) ||
            __builtin_add_overflow(usec, fraction * unit / scale, &usec) || usec == USEC_INFINITY)
                return -ERANGE;

        *ret = usec;
        return 0;
}

void time_format_span(usec_t span, char ret[32]) {
        static const struct {
                usec_t large, small;
                const char *large_name, *small_name;
        } rows[] = {
                { SEC(86400), SEC(3600), "d", "h" },
                { SEC(3600), SEC(60), "h", "min" },
                { SEC(60), SEC(1), "min", "s" },
        };
        unsigned large, small; /* the largest span has 213503982 days */
        size_t i;

        if (span == USEC_INFINITY) {
                (void) snprintf(ret, 32, "for ever");
                return;
        }

        for (i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
                if (span < rows[i].large)
                        continue;
                large = (unsigned) (span / rows[i].large);
                small = (unsigned) (span % rows[i].large / rows[i].small);
                if (small > 0)
                        (void) snprintf(ret, 32, "%u %s %u %s", large, rows[i].large_name, small,
                                        rows[i].small_name);
                else
                        (void) snprintf(ret, 32, "%u %s", large, rows[i].large_name);
                return;
        }

        if (span >= SEC(1))
                (void) snprintf(ret, 32, "%llu s", (unsigned long long) (span / SEC(1)));
        else
                (void) snprintf(ret, 32, "%llu ms", (unsigned long long) (span / MSEC(1)));
}

void time_make_id(usec_t realtime_usec, uint32_t random, char ret[32]) {
        struct tm tm;
        size_t n;

        break_down(realtime_usec, &tm);
        n = strftime(ret, 32, "%Y%m%dT%H%M%SZ", &tm);
        (void) snprintf(ret + n, 32 - n, "-%08x", random);
}
