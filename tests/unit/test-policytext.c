#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/str.h"
#include "control/policy.h"

static char bucket[] = "shop-store", prefix[] = "p";
static const S3Location location = { bucket, prefix };

static void assert_explained(const PolicySpec *spec, PolicyKind kind, const char *words) {
        _cleanup_(buf_done) Buf text = BUF_INIT(8192);

        assert_int_equal(policy_explain(spec, kind, "DIR/x.json", &text), 0);
        if (!strstr(buf_str(&text), words))
                fail_msg("no \"%s\" in: %s", words, buf_str(&text));
}

/* What a person pastes into a shell. */
static void test_commands(_unused_ void **state) {
        PolicySpec spec = { .location = &location, .partition = "aws" };

        assert_explained(
                &spec, POLICY_AGENT,
                "\n  aws iam put-role-policy --role-name HOSTS --policy-name tendril-agent "
                "--policy-document file://DIR/x.json\n");
        assert_explained(&spec, POLICY_PUBLISHER,
                         "--policy-name tendril-publisher --policy-document file://DIR/x.json\n");
        assert_explained(&spec, POLICY_BUCKET,
                         "\n  aws s3api put-bucket-policy --bucket shop-store --policy "
                         "file://DIR/x.json\n");
        assert_explained(&spec, POLICY_LIFECYCLE,
                         "\n  aws s3api put-bucket-lifecycle-configuration --bucket shop-store "
                         "--lifecycle-configuration file://DIR/x.json\n");
        assert_explained(&spec, POLICY_ENCRYPTION,
                         "\n  aws s3api put-bucket-encryption --bucket shop-store "
                         "--server-side-encryption-configuration file://DIR/x.json\n");
        assert_explained(&spec, POLICY_KEY, "--output text --key-id KEY\n");
}

static void test_account(_unused_ void **state) {
        PolicySpec spec = { .location = &location, .partition = "aws", .account = "111122223333" };

        assert_explained(&spec, POLICY_BUCKET, "Account 111122223333 may hand on");
}

/* Names of files, each another; whole lines that a terminal holds. */
static void test_texts(_unused_ void **state) {
        PolicySpec spec = { .location = &location, .partition = "aws", .account = "111122223333" };

        for (int kind = 0; kind < _POLICY_KIND_MAX; kind++) {
                _cleanup_(buf_done) Buf text = BUF_INIT(8192);
                const char *line;

                assert_true(str_is_label(policy_name((PolicyKind) kind)));
                for (int other = 0; other < kind; other++)
                        assert_string_not_equal(policy_name((PolicyKind) kind),
                                                policy_name((PolicyKind) other));
                assert_int_equal(policy_explain(&spec, (PolicyKind) kind, "x.json", &text), 0);
                for (line = buf_str(&text); *line; line += strcspn(line, "\n") + 1)
                        if (strcspn(line, "\n") > 120)
                                fail_msg("longer than 120: %s", line);
                assert_int_equal(text.data[text.size - 1], '\n');
        }
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_commands),
                cmocka_unit_test(test_account),
                cmocka_unit_test(test_texts),
        };

        return cmocka_run_group_tests_name("policytext", tests, NULL, NULL);
}
