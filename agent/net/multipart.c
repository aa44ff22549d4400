#include "net/multipart.h"

#include <errno.h>
#include <string.h>

#include "base/digest.h"
#include "base/str.h"

#define MD5_BYTES 16

bool multipart_md5(const char *base64, char ret[MULTIPART_MD5_SIZE]) {
        _cleanup_(buf_done) Buf raw = BUF_INIT(64);

        ret[0] = 0;
        if (digest_base64_decode(base64, strlen(base64), &raw) < 0 || raw.size != MD5_BYTES)
                return false;
        digest_hex((const uint8_t *) raw.data, raw.size, ret);
        return true;
}

static bool add_etag(Digest *md5, const char *etag) {
        static const char digits[] = "0123456789abcdef";
        uint8_t raw[MD5_BYTES];

        if (strlen(etag) != MULTIPART_MD5_SIZE - 1 ||
            strspn(etag, digits) != MULTIPART_MD5_SIZE - 1)
                return false;
        for (size_t i = 0; i < MD5_BYTES; i++)
                raw[i] = (uint8_t) ((strchr(digits, etag[2 * i]) - digits) << 4 |
                                    (strchr(digits, etag[2 * i + 1]) - digits));
        digest_update(md5, raw, sizeof(raw));
        return true;
}

char *multipart_etag(char *const *etags, size_t n) {
        _cleanup_(digest_freep) Digest *md5 = digest_new_md5();
        char text[DIGEST_MD5_BASE64_SIZE], hex[MULTIPART_MD5_SIZE];

        if (!md5)
                return NULL;
        for (size_t i = 0; i < n; i++)
                if (!add_etag(md5, etags[i]))
                        return NULL;
        digest_final_md5(md5, text);
        return multipart_md5(text, hex) ? str_format("%s-%zu", hex, n) : NULL;
}

static int append_escaped(Buf *text, const char *etag) {
        int r = 0;

        for (; *etag && r == 0; etag++)
                switch (*etag) {
                case '&':
                        r = buf_append_str(text, "&amp;");
                        break;
                case '<':
                        r = buf_append_str(text, "&lt;");
                        break;
                case '>':
                        r = buf_append_str(text, "&gt;");
                        break;
                case '"':
                        r = buf_append_str(text, "&quot;");
                        break;
                default:
                        r = buf_append(text, etag, 1);
                        break;
                }
        return r;
}

int multipart_list(char *const *etags, size_t n, Buf *text) {
        int r;

        r = buf_append_str(text, "<CompleteMultipartUpload "
                                 "xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">");
        for (size_t i = 0; i < n && r == 0; i++) {
                r = buf_printf(text, "<Part><PartNumber>%zu</PartNumber><ETag>&quot;", i + 1);
                if (r == 0)
                        r = append_escaped(text, etags[i]);
                if (r == 0)
                        r = buf_append_str(text, "&quot;</ETag></Part>");
        }
        return r == 0 ? buf_append_str(text, "</CompleteMultipartUpload>") : r;
}

/* "2026-08-01T12:00:00.000Z": S3 writes thousandths. */
bool multipart_is_old(const char *initiated, usec_t now, usec_t age) {
        char text[TIME_RFC3339_SIZE] = "";
        usec_t then;

        if (!initiated || strlen(initiated) < TIME_RFC3339_SIZE - 2)
                return false;
        memcpy(text, initiated, TIME_RFC3339_SIZE - 2);
        text[TIME_RFC3339_SIZE - 2] = 'Z';
        return time_parse(text, &then) == 0 && now > then && now - then > age;
}
