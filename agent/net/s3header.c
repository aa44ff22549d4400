#include "net/s3header.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/str.h"

#define DATE_BYTES 29
#define ETAG_BYTES 128

static const char day_names[] = "SunMonTueWedThuFriSat";
static const char month_names[] = "JanFebMarAprMayJunJulAugSepOctNovDec";

/* Which of the names of three letters stands there; -1: none. */
static int name_at(const char *text, const char *names) {
        for (int i = 0; names[3 * i] != '\0'; i++)
                if (memcmp(text, names + 3 * i, 3) == 0)
                        return i;
        return -1;
}

/* n digits; -1: they are not. */
static int number_at(const char *text, int n) {
        int value = 0;

        for (int i = 0; i < n; i++) {
                if (text[i] < '0' || text[i] > '9')
                        return -1;
                value = value * 10 + (text[i] - '0');
        }
        return value;
}

/* All but what is read as a name or a number. */
static bool has_frame(const char *text) {
        static const char frame[] = "---, -- --- ---- --:--:-- GMT";

        if (strlen(text) != DATE_BYTES)
                return false;
        for (size_t i = 0; i < DATE_BYTES; i++)
                if (frame[i] != '-' && frame[i] != text[i])
                        return false;
        return true;
}

int s3_date_parse(const char *text, usec_t *ret) {
        char iso[64];
        int year, month, day, hour, minute, second, r;
        struct tm tm = { 0 };
        time_t seconds;
        usec_t usec;

        if (!text || !has_frame(text))
                return -EINVAL;
        day = number_at(text + 5, 2);
        month = name_at(text + 8, month_names);
        year = number_at(text + 12, 4);
        hour = number_at(text + 17, 2);
        minute = number_at(text + 20, 2);
        second = number_at(text + 23, 2);
        if (day < 0 || month < 0 || year < 0 || hour < 0 || minute < 0 || second < 0)
                return -EINVAL;

        /* Whether there is such a day, base/time.h knows. */
        (void) snprintf(iso, sizeof(iso), "%04d-%02d-%02dT%02d:%02d:%02dZ", year, month + 1, day,
                        hour, minute, second);
        r = time_parse(iso, &usec);
        if (r < 0)
                return r;
        seconds = (time_t) (usec / SEC(1));
        if (!gmtime_r(&seconds, &tm) || name_at(text, day_names) != tm.tm_wday)
                return -EINVAL;
        *ret = usec;
        return 0;
}

bool s3_etag_is_bare(const char *text, size_t size) {
        if (size == 0 || size > ETAG_BYTES)
                return false;
        for (size_t i = 0; i < size; i++)
                if (text[i] <= ' ' || text[i] == '"' || text[i] > '~')
                        return false;
        return true;
}

int s3_etag_parse(const char *text, char **ret) {
        size_t size;

        if (str_has_prefix(text, "W/\""))
                text += 2;
        size = strlen(text);
        if (size >= 2 && text[0] == '"' && text[size - 1] == '"') {
                text++;
                size -= 2;
        }
        if (!s3_etag_is_bare(text, size))
                return -EINVAL;
        *ret = strndup(text, size);
        return *ret ? 0 : -ENOMEM;
}
