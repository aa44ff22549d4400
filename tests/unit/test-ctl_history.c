#include "ctl-run.h"

static void test_history(_unused_ void **state) {
        Setup s;

        agent_start(&s);
        assert_run("history", EXIT_CODE_OK,
                   "DEPLOY  KIND      VERSION  TOOK  OUTCOME  CAUSE\n"
                   "d1      assigned  with     -     running  -\n");
        assert_run("history --json", EXIT_CODE_OK, "{\"deploys\":[{\"format\":1,\"id\":\"d1\",");
        assert_run("history d1", EXIT_CODE_OK, "hook      prebuild 10-x (host): ok in ");
        assert_run("history d1", EXIT_CODE_OK, "password=hunter2");
        assert_run("history d1 --json", EXIT_CODE_OK, "{\"format\":1,\"id\":\"d1\",");
        assert_run("history d9", EXIT_CODE_FAILED, "no deploy d9 is kept here");
        assert_run("history --limit 99", EXIT_CODE_FAILED, "read the records: ?[31mboom");
        assert_run("logs", EXIT_CODE_OK, "line\n");
        assert_run("logs d2 --follow", EXIT_CODE_OK, "line\n");
        assert_run("logs --json", EXIT_CODE_OK,
                   "{\"deploy\":null,\"text\":\"line\\n\",\"offset\":5,\"more\":false}\n");
        assert_run("logs ../x", EXIT_CODE_USAGE, "is no id of a deploy");
        agent_stop(&s);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_history),
        };

        return cmocka_run_group_tests_name("ctl_history", tests, NULL, NULL);
}
