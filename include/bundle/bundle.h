#pragma once

/*
 * The work of `tendril-bundle`, as functions on descriptors; programs/bundle.c receives one request
 * and calls one of them. Each returns 0 or a negative errno with words that name the entry, line or
 * key at fault.
 */

#include "base/buf.h"
#include "base/error.h"
#include "bundle/task.h"
#include "settings/plan.h"

/* Digest and size of a whole file; where expected->sha256 is given, a difference is -EBADMSG. */
int bundle_verify(int fd, const TaskVerify *expected, TaskVerified *ret, Error **reterr);

/* DSSE envelope → payload, appended to ret. A signature is checked over the exact bytes before
 * anybody looks into them. -EKEYREJECTED says why no signature counts: unsigned, unknown key, wrong
 * purpose, ended, altered. -EBADMSG: not an envelope, other type. */
int bundle_open(const char *envelope, size_t size, const TaskOpen *how, Buf *ret,
                TaskOpened *ret_opened, Error **reterr);

/* Payload → envelope. previous (or NULL): an envelope of the same payload whose signatures are kept
 * (rotation). */
int bundle_sign(const char *payload, size_t size, const char *previous, size_t previous_size,
                const TaskSign *how, Buf *ret, Error **reterr);

/*
 * Unpacks zip, war, jar, tar, tar.gz, tar.bz2, tar.xz or tar.zst into an empty folder, using
 * threads of this process where the format allows it (zip). Refused, each with a sentence that
 * names the entry: absolute and ".." paths, links that leave the folder, hard links to anything but
 * an earlier regular file inside, devices and FIFOs and sockets, SUID and SGID, two entries of one
 * name, a file where a folder must be, names that are not clean UTF-8 or too long or too deep, too
 * many entries, too much data, too high a ratio, encrypted entries, data that does not match its
 * checksum or ends early. Before the first byte is written the free space and inodes are compared
 * with what the archive says it needs: -ENOSPC names what is missing.
 *
 * Modes: r/w/x bits of the owner count (folders 0755, files 0644 or 0755); times are the archive's.
 * Nothing is written through a link. On failure what was written stays: the caller removes the
 * folder. Before success: syncfs.
 */
int bundle_unpack(int fd, int dir_fd, const TaskUnpack *how, TaskUnpacked *ret, Error **reterr);

/* What the unpacked folder asks for. Makes nothing, changes nothing. -EBADMSG with file and line.
 */
int bundle_plan(int dir_fd, const TaskPlan *how, Plan *ret, Error **reterr);

/* Procfile or Buildfile: one "name: command" a line, names [A-Za-z0-9_-]+, blank lines and #
 * comments allowed; -EBADMSG "Procfile:3: ...". Source: Elastic Beanstalk developer guide,
 * platforms-linux-extend. Appends PlanProcess items. */
int procfile_parse(const char *text, size_t size, const char *file, JsonArray *ret, Error **reterr);

/*
 * Confinement of this program, after it has its request and before it reads a byte of it: no new
 * privileges, limits on files, memory and processes, Landlock (write only below write_fd, read only
 * there and below read_fd; a descriptor < 0: nowhere), seccomp (an allow-list; no sockets, no exec,
 * no ptrace; new threads only with threads). Each permission has its reason beside it. Descriptors
 * that are open already keep working. It cannot be undone. Landlock or seccomp that the kernel does
 * not have is told in *ret_lost (a static sentence, or NULL) and is not an error; a build with a
 * sanitizer confines nothing but its limits, and says so.
 */
typedef struct Confinement {
        int write_fd;
        int read_fd;
        bool threads;
} Confinement;

int bundle_confine(const Confinement *how, const char **ret_lost, Error **reterr);

/*
 * The whole of a run, in programs/bundle.c: find the task, confine, run it. NULL with words: no
 * such task, or too few descriptors. bundle_task_run() decodes the parameters, does the work and
 * answers on call_fd; where it fails, answering is left to the caller.
 */
typedef struct CallRequest CallRequest;
typedef struct BundleTask BundleTask;

const BundleTask *bundle_task_find(const CallRequest *request, Error **reterr);
Confinement bundle_task_confinement(const BundleTask *task, const CallRequest *request);
int bundle_task_run(const BundleTask *task, const CallRequest *request, int call_fd,
                    Error **reterr);
