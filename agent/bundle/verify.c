#include <assert.h>
#include <errno.h>
#include <string.h>

#include "base/digest.h"
#include "base/str.h"
#include "bundle/bundle.h"

int bundle_verify(int fd, const TaskVerify *expected, TaskVerified *ret, Error **reterr) {
        char sha256[DIGEST_SHA256_HEX_SIZE];
        uint64_t size;
        int r;

        assert(expected && ret);

        r = digest_fd(fd, sha256, &size);
        if (r < 0)
                return error_set(reterr, r, "read the bundle: %s", strerror(-r));
        if (expected->sha256 && expected->size != size)
                return error_set(reterr, -EBADMSG,
                                 "the bundle has %llu bytes, but its version says %llu: it is not "
                                 "what was published",
                                 (unsigned long long) size, (unsigned long long) expected->size);
        if (expected->sha256 && !str_equal(expected->sha256, sha256))
                return error_set(reterr, -EBADMSG,
                                 "the bundle's SHA-256 is %s, but its version says %s: it is not "
                                 "what was published",
                                 sha256, expected->sha256);

        *ret = (TaskVerified){ .sha256 = strdup(sha256), .size = size };
        return ret->sha256 ? 0 : -ENOMEM;
}
