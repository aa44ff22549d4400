/*
 * tendril-bundle: reads what publishers wrote. One request over descriptor 3 (bundle/task.h), its
 * confinement, the work, the answer, the end. It has nobody to talk to but its caller: it never
 * logs.
 */

#include <errno.h>
#include <locale.h>
#include <signal.h>
#include <string.h>

#include "bundle/bundle.h"
#include "loop/call.h"

#define CALL_FD 3

static int serve(const CallRequest *request, Error **reterr) {
        const BundleTask *task = bundle_task_find(request, reterr);
        Confinement confinement;
        const char *lost;
        int r;

        if (!task)
                return error_code(*reterr);
        confinement = bundle_task_confinement(task, request);
        r = bundle_confine(&confinement, &lost, reterr);
        if (r < 0)
                return error_wrap(reterr, r, "confine tendril-bundle");
        return bundle_task_run(task, request, CALL_FD, reterr);
}

int main(void) {
        _cleanup_(call_request_done) CallRequest request = { 0 };
        _cleanup_(error_freep) Error *error = NULL;
        int r;

        /* Names in archives are UTF-8; without this libarchive does not take them for it. */
        (void) setlocale(LC_CTYPE, "C.UTF-8");
        /* A zip has local times of nobody knows where. And where TZ is not set, libc looks for its
         * file at each of them. */
        (void) setenv("TZ", "UTC0", 1);
        (void) signal(SIGPIPE, SIG_IGN);

        r = call_receive(CALL_FD, &request);
        if (r < 0)
                return r == -ENODATA ? EXIT_SUCCESS : EXIT_FAILURE;
        r = serve(&request, &error);
        if (r < 0)
                r = call_fail(CALL_FD, request.id, r, error ? error_text(error) : strerror(-r));
        return r < 0 ? EXIT_FAILURE : EXIT_SUCCESS;
}
