#pragma once

/*
 * The few XML answers that are read, with expat: errors, lists, single values. Bounded in bytes
 * (the caller's buffer), depth, and what is kept; a document type declaration is refused (no
 * entities but the five, so nothing expands). -EBADMSG in words for all that is not such an answer.
 *
 * Source: AmazonS3 API reference (ListObjectsV2, Error responses), STS API reference.
 */

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"
#include "store/store.h"

/* <Error><Code>..</Code><Message>..</Message>..., also within <ErrorResponse>. Strings are the
 * struct's; NULL where there was none. */
typedef struct XmlError {
        char *code;
        char *message;
        char *region;   /* of a redirect or AuthorizationHeaderMalformed */
        char *endpoint; /* of a PermanentRedirect */
        char *bucket;
} XmlError;
int xml_read_error(const char *text, size_t size, XmlError *ret, Error **reterr);
void xml_error_done(XmlError *error);

/* ListBucketResult. Keys as they are (encoding-type=url is undone where the answer says so). */
typedef struct XmlList {
        StoreEntry *entries; /* at most LIMIT_LIST_KEYS; more are an error */
        size_t n_entries;
        bool truncated;
        char *next_token; /* NextContinuationToken, or NULL */
} XmlList;
int xml_read_list(const char *text, size_t size, XmlList *ret, Error **reterr);
void xml_list_done(XmlList *list);

/* Text of the first elements of these names, at any depth, whatever the root is; values[i] is the
 * caller's, NULL where there is none. "UploadId"; "AccessKeyId", "SecretAccessKey", ... */
int xml_read_values(const char *text, size_t size, const char *const *names, size_t n,
                    char **values, Error **reterr);

/* CompleteMultipartUpload answers 200 and may hold an error all the same: true where the root is
 * <Error>. */
bool xml_is_error(const char *text, size_t size);
