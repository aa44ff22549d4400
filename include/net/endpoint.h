#pragma once

/*
 * Where a service of AWS answers: names of hosts from region, partition and options. Pure.
 *
 * Sources: docs.aws.amazon.com/general/latest/gr/s3.html (endpoints), AmazonS3 user guide
 * "Dual-stack endpoints", "FIPS", "VirtualHosting", "BucketRestrictions" (names).
 */

#include <stdbool.h>

#include "base/error.h"

/* "s3://bucket/prefix". */
typedef struct S3Location {
        char *bucket;
        char *prefix; /* without slashes at its ends; "" where none */
} S3Location;
int s3_location_parse(const char *url, S3Location *ret, Error **reterr); /* -EINVAL in words */
void s3_location_done(S3Location *location);

typedef struct EndpointSpec {
        const char *region; /* "eu-west-1" */
        const char
                *endpoint;  /* "https://host[:port]" of a VPC endpoint or another server, or NULL */
        const char *domain; /* of the partition, from IMDS, or NULL: by the region's name */
        bool path_style;    /* bucket in the path. With `endpoint` it is the default (see below) */
        bool virtual_host;  /* bucket in the host's name, with `endpoint` too */
        bool dualstack;
        bool fips;
} EndpointSpec;

/* What a request is made of: base + path. */
typedef struct Endpoint {
        char *base;   /* "https://bucket.s3.eu-west-1.amazonaws.com", "http://127.0.0.1:7480" */
        char *host;   /* what stands behind "://" */
        char *path;   /* what every path begins with: "" or "/bucket" (encoded) */
        char *region; /* to sign with */
} Endpoint;

/* A bucket with dots in its name, or an endpoint that is an address, is asked path style: no
 * certificate would fit. -EINVAL: not a bucket's name, not a region's, not an URL, options that
 * exclude each other. */
int endpoint_s3(const EndpointSpec *spec, const char *bucket, Endpoint *ret, Error **reterr);

/* Other services: "sts", "logs", ... */
int endpoint_service(const EndpointSpec *spec, const char *service, Endpoint *ret, Error **reterr);
void endpoint_done(Endpoint *endpoint);

/* "amazonaws.com" or that of the region's partition (cn-, us-iso-, us-isob-, ...; unknown ones:
 * aws). */
const char *endpoint_domain(const char *region);
bool endpoint_is_region(
        const char *text); /* [a-z]{2,}(-[a-z]+)+-[0-9]+ and the like: lower case, digits, '-' */
