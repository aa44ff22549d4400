#include "deploy/desired.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/str.h"
#include "deploy/deploy.h"

#define ONE "1111111111111111111111111111111111111111111111111111111111111111"
#define TWO "2222222222222222222222222222222222222222222222222222222222222222"

static State *desired_state(void) {
        State *s = state_new();

        assert_non_null(s);
        s->revision = s->desired.revision = 7;
        s->desired.environment = strdup("prod");
        s->desired.store = strdup("store1");
        s->desired.target.label = strdup("v2");
        s->desired.target.sha256 = strdup(TWO);
        s->desired.base.label = strdup("v1");
        s->desired.base.sha256 = strdup(ONE);
        s->current.label = strdup("v1");
        s->current.sha256 = strdup(ONE);
        s->current.revision = 6;
        return s;
}

static void test_decide(void **state _unused_) {
        _cleanup_(state_freep) State *s = desired_state();
        HeadDocument head = { .revision = 7, .status = HEAD_RUN, .follow = HEAD_TARGET };
        const VersionRef *ref = NULL;

        assert_int_equal(desired_decide(s, &head, &ref), DESIRED_DEPLOY);
        assert_string_equal(ref->label, "v2");
        assert_int_equal(desired_decide(s, NULL, &ref), DESIRED_DEPLOY);

        head.status = HEAD_PAUSED;
        assert_int_equal(desired_decide(s, &head, &ref), DESIRED_PAUSED);
        head.status = HEAD_ABORTED;
        assert_int_equal(desired_decide(s, &head, &ref), DESIRED_PAUSED);
        /* The way back is not held up by an abort, it is what an abort asks for. */
        head.follow = HEAD_BASE;
        assert_int_equal(desired_decide(s, &head, &ref), DESIRED_DEPLOY);
        assert_string_equal(ref->label, "v1");
        /* A head of another revision says nothing about this one. */
        head.revision = 6;
        assert_int_equal(desired_decide(s, &head, &ref), DESIRED_DEPLOY);
        assert_string_equal(ref->label, "v2");
}

static void test_decide_not(void **state _unused_) {
        _cleanup_(state_freep) State *s = desired_state(), *fresh = state_new();
        const VersionRef *ref = NULL;

        assert_int_equal(desired_decide(fresh, NULL, &ref), DESIRED_NONE);
        s->hold = true;
        assert_int_equal(desired_decide(s, NULL, &ref), DESIRED_HELD);
        s->hold = false;
        assert_int_equal(quarantine_add(s, 7, "v2", TWO, "gate", 0), 0);
        assert_int_equal(desired_decide(s, NULL, &ref), DESIRED_QUARANTINED);
        quarantine_lift(s, 7, TWO);
        /* Another revision with the same version is another attempt: settings may have changed. */
        assert_int_equal(quarantine_add(s, 6, "v2", TWO, "gate", 0), 0);
        assert_int_equal(desired_decide(s, NULL, &ref), DESIRED_DEPLOY);
        free(s->current.sha256);
        s->current.sha256 = strdup(TWO);
        assert_int_equal(desired_decide(s, NULL, &ref), DESIRED_DEPLOY);
        s->current.revision = 7;
        assert_int_equal(desired_decide(s, NULL, &ref), DESIRED_NOTHING);
        assert_null(fresh->current.label);
}

static void refused(const State *s, const DesiredDocument *doc, const char *store, const char *env,
                    uint64_t min, int code, const char *word) {
        _cleanup_(error_freep) Error *err = NULL;

        assert_int_equal(desired_accept(s, doc, store, env, min, &err), code);
        if (!strstr(error_text(err), word))
                fail_msg("'%s' is not in: %s", word, error_text(err));
}

static void test_accept(void **state _unused_) {
        _cleanup_(state_freep) State *s = desired_state();
        DesiredDocument *doc = &s->desired;

        assert_int_equal(desired_accept(s, doc, "store1", "prod", 0, NULL), 0);
        assert_int_equal(desired_accept(s, doc, NULL, "prod", 7, NULL), 0);
        refused(s, doc, "store1", "test", 0, -EKEYREJECTED, "environment");
        refused(s, doc, "store2", "prod", 0, -EKEYREJECTED, "store");
        refused(s, doc, "store1", "prod", 8, -ESTALE, "min_revision");
        s->revision = 8;
        refused(s, doc, "store1", "prod", 0, -ESTALE, "revision 7");
        s->revision = 7;
        free(doc->target.label);
        doc->target.label = NULL;
        refused(s, doc, "store1", "prod", 0, -EBADMSG, "target");
}

/* The shape of the pipeline: before the switch every failure lets the lease go, from it on it rolls
 * back first. */
static void test_stages(void **state _unused_) {
        for (int i = DEPLOY_LEASE; i < DEPLOY_SWITCH; i++) {
                assert_int_equal(deploy_next((DeployStage) i, false), DEPLOY_RELEASE);
                assert_int_equal(deploy_next((DeployStage) i, true), i + 1);
        }
        assert_int_equal(deploy_next(DEPLOY_SWITCH, false), DEPLOY_ROLLBACK);
        assert_int_equal(deploy_next(DEPLOY_GATE, false), DEPLOY_ROLLBACK);
        assert_int_equal(deploy_next(DEPLOY_GATE, true), DEPLOY_RELEASE);
        assert_int_equal(deploy_next(DEPLOY_ROLLBACK, true), DEPLOY_RELEASE);
        assert_int_equal(deploy_next(DEPLOY_ROLLBACK, false), DEPLOY_RELEASE);
        assert_int_equal(deploy_next(DEPLOY_RELEASE, false), DEPLOY_DESIRED);
        for (int i = 0; i < _DEPLOY_STAGE_MAX; i++)
                assert_int_equal(deploy_stage_from_name(deploy_stage_name((DeployStage) i)), i);
        assert_int_equal(deploy_stage_from_name("flip"), _DEPLOY_STAGE_INVALID);
        assert_int_equal(deploy_stage_from_name(NULL), _DEPLOY_STAGE_INVALID);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_decide),
                cmocka_unit_test(test_decide_not),
                cmocka_unit_test(test_accept),
                cmocka_unit_test(test_stages),
        };

        return cmocka_run_group_tests_name("desired", tests, NULL, NULL);
}
