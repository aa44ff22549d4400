/* Countdown over what only reads and makes text: JSON and YAML, documents, settings, plans,
 * envelopes, messages. */

#include <errno.h>
#include <string.h>

#include "../../agent/control/message.h"
#include "agent/limits.h"
#include "base/digest.h"
#include "base/json.h"
#include "base/str.h"
#include "base/yaml.h"
#include "bundle/bundle.h"
#include "control/proto.h"
#include "countdown.h"
#include "deploy/state.h"
#include "fleet/lane.h"
#include "host/config.h"
#include "service/proxy.h"
#include "settings/environment.h"
#include "settings/overlap.h"
#include "store/document.h"

#define SHA "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"

static const char yaml[] =
        "environment: test\nhost: h1\nstore: {url: \"file:///srv/store\", unsigned: true}\n"
        "trusted_keys:\n"
        "- id: ci\n  purpose: publish\n  ends: 2027-01-31T00:00:00Z\n  pem: |\n"
        "    -----BEGIN PUBLIC KEY-----\n"
        "    MCowBQYDK2VwAyEAGb9ECWmEzf6FQbrBZ9w7lshQhqowtrbLDFw4rXAxZuE=\n"
        "    -----END PUBLIC KEY-----\n"
        "application: {user: shop, overlap: all, environment: {A: 1, SECRET_B: word, C: }}\n"
        "gate: &g {path: /health, status: \"200,204\"}\n";

static const char plan_text[] =
        "{\"format\":1,\"kind\":\"procfile\",\"processes\":[{\"name\":\"web\",\"command\":\"./"
        "run\"},"
        "{\"name\":\"worker\",\"command\":\"./work "
        "--beat\"}],\"prebuild\":[\".platform/hooks/prebuild/10-a\"],"
        "\"proxy_http\":[\".platform/nginx/conf.d/a.conf\"],\"warnings\":[\"one\",\"two\"]}";

static const char desired_text[] =
        "{\"format\":1,\"store\":\"s\",\"environment\":\"test\",\"application\":\"shop\","
        "\"revision\":7,"
        "\"nonce\":\"00112233445566778899aabbccddeeff\",\"target\":{\"label\":\"v2\",\"sha256\":"
        "\"" SHA "\"},"
        "\"base\":{\"label\":\"v1\",\"sha256\":\"" SHA "\"},\"settings\":[{\"namespace\":"
        "\"aws:elasticbeanstalk:application:environment\",\"option\":\"A\",\"value\":\"b\"},{"
        "\"namespace\":\"tendril:deploy\","
        "\"option\":\"Overlap\",\"value\":\"web\"}],\"created\":\"2026-01-01T00:00:00Z\"}";

/* ---- configuration, JSON and YAML ---- */

static int run_config(Error **reterr) {
        _cleanup_(config_freep) Config *config = NULL;

        return config_parse(yaml, sizeof(yaml) - 1, "tendril.yaml", &config, reterr);
}

static int run_yaml(Error **reterr) {
        _cleanup_(yaml_freep) YamlDoc *doc = NULL;

        return yaml_parse(yaml, sizeof(yaml) - 1, "x.yaml", &doc, reterr);
}

static int run_json(Error **reterr) {
        _cleanup_(json_freep) Json *value = NULL;
        _cleanup_(buf_done) Buf text = BUF_INIT(65536);
        int r;

        r = json_parse(plan_text, sizeof(plan_text) - 1, &value, reterr);
        return r < 0 ? r : json_print(value, true, &text);
}

static int round_trip(const char *text, const JsonTable *table, void *a, void *b, Error **reterr) {
        _cleanup_(buf_done) Buf out = BUF_INIT(LIMIT_PLAN_BYTES);
        _cleanup_(json_freep) Json *value = NULL;
        int r;

        r = document_decode("it", text, strlen(text), table, a, reterr);
        if (r >= 0)
                r = json_encode(table, a, &out);
        if (r >= 0)
                r = json_table_copy(table, a, b);
        if (r >= 0) {
                value = json_encode_value(table, b);
                r = value ? 0 : -ENOMEM;
        }
        json_table_done(table, a);
        json_table_done(table, b);
        return r;
}

static int run_plan_text(Error **reterr) {
        Plan a = { 0 }, b = { 0 };

        return round_trip(plan_text, &plan_table, &a, &b, reterr);
}

static int run_desired(Error **reterr) {
        DesiredDocument a = { 0 }, b = { 0 };

        return round_trip(desired_text, &desired_document_table, &a, &b, reterr);
}

static int run_state_text(Error **reterr) {
        _cleanup_(state_freep) State *state = state_new();
        int r;

        (void) reterr;
        if (!state)
                return -ENOMEM;
        r = quarantine_add(state, 3, "v1", SHA, "why", SEC(1700000000));
        if (r >= 0)
                r = quarantine_add(state, 4, "v2", SHA, "why", SEC(1700000000));
        if (r >= 0)
                r = json_map_set(&state->current.properties, 8, "A", "b");
        return r < 0 ? r : version_state_copy(&state->previous, &state->current);
}

/* ---- settings ---- */

static int run_settings(Error **reterr) {
        _cleanup_(config_freep) Config *config = NULL;
        DesiredDocument doc = { 0 };
        Effective effective = { 0 };
        JsonMap properties = { 0 };
        _cleanup_(strv_freep) char **env = NULL, **secrets = NULL;
        int r;

        countdown_pause();
        (void) config_parse(yaml, sizeof(yaml) - 1, "tendril.yaml", &config, NULL);
        (void) document_decode("it", desired_text, sizeof(desired_text) - 1,
                               &desired_document_table, &doc, NULL);
        countdown_resume();

        r = environment_properties(config, &doc.settings, &properties, reterr);
        if (r >= 0)
                r = effective_make(config, &doc.settings, &effective, reterr);
        if (r >= 0) {
                env = environment_build(
                        &(EnvironmentSpec){ .home = "/x", .port = 1, .properties = &properties });
                secrets = env ? environment_secrets(&properties) : NULL;
                r = env && secrets ? 0 : -ENOMEM;
        }
        countdown_pause();
        effective_done(&effective);
        json_map_done(&properties);
        json_table_done(&desired_document_table, &doc);
        return r;
}

static int run_overlap(Error **reterr) {
        OverlapDecision decision;
        Plan plan = { 0 };
        int r;

        r = json_decode(plan_text, sizeof(plan_text) - 1, &plan_table, JSON_LENIENT, &plan, reterr);
        if (r < 0)
                return r;
        overlap_decide(
                &(OverlapInput){ .wanted = OVERLAP_ALL, .runs = true, .plan = &plan, .view = true },
                &decision);
        if (!decision.why[0])
                countdown_bad("no words for the overlap");
        r = plan_check(&plan, reterr);
        json_table_done(&plan_table, &plan);
        return r;
}

/* ---- lanes ---- */

static int run_lane(Error **reterr _unused_) {
        char nonce[] = "aaaaaaaaaaaaaaaa0000000000000001", holder[] = "h1", step[] = "gate";
        const LaneDocument held = { .format = 1,
                                    .nonce = nonce,
                                    .epoch = 4,
                                    .state = LANE_HELD,
                                    .holder = holder,
                                    .step = step };
        const LaneChange change = { .write = LANE_WRITE_RENEW,
                                    .self = "h1",
                                    .fresh = "cccccccccccccccc0000000000000003",
                                    .step = "gate" };
        LaneDocument next = { 0 };
        int r;

        r = lane_next(&held, &change, &next);
        if (r < 0 && (next.nonce || next.holder || next.step))
                countdown_bad("half a lane document is left");
        json_table_done(&lane_document_table, &next);
        return r;
}

static int run_nonce(Error **reterr _unused_) {
        _cleanup_free_ char *nonce = document_nonce();

        return nonce ? 0 : -ENOMEM;
}

/* ---- the bundle's side ---- */

static int run_procfile(Error **reterr) {
        static const char text[] = "web: ./run --a\n# words\nworker: ./work\n\nclock: ./clock\n";
        static const JsonField fields[] = {
                JSON_ROW_TABLE("a", JSON_KIND_ARRAY, 0, Plan, processes, 100, &plan_process_table),
                JSON_END,
        };
        static const JsonTable table = { fields, sizeof(Plan) };
        Plan plan = { 0 };
        int r;

        r = procfile_parse(text, sizeof(text) - 1, "Procfile", &plan.processes, reterr);
        json_table_done(&table, &plan);
        return r;
}

static int run_envelope(Error **reterr) {
        _cleanup_(buf_done) Buf secret = BUF_INIT(LIMIT_KEY_BYTES),
                                public = BUF_INIT(LIMIT_KEY_BYTES), envelope = BUF_INIT(65536),
                                payload = BUF_INIT(65536);
        char type[] = "application/x", id[] = "k1", purpose[] = "assign",
             now[] = "2026-08-01T12:00:00Z";
        TaskSign sign = { .type = type, .key_id = id };
        TaskKey key = { .id = id, .purpose = purpose };
        TaskOpen open = {
                .type = type, .purpose = purpose, .now = now, .keys = { .items = &key, .n = 1 }
        };
        TaskOpened opened = { 0 };
        int r;

        r = digest_keygen(&secret, &public, reterr);
        sign.private_pem = secret.data;
        key.pem = public.data;
        if (r >= 0)
                r = bundle_sign(desired_text, sizeof(desired_text) - 1, NULL, 0, &sign, &envelope,
                                reterr);
        if (r >= 0)
                r = bundle_open(buf_str(&envelope), envelope.size, &open, &payload, &opened,
                                reterr);
        if (r >= 0 && !str_equal(buf_str(&payload), desired_text))
                countdown_bad("another payload came out");
        if (r < 0 && payload.size > 0)
                countdown_bad("a payload came out of a failure");
        free(opened.key_id);
        return r;
}

/* ---- the socket, the proxy ---- */

static int run_message(Error **reterr) {
        ControlStatus status = { 0 };
        _cleanup_(buf_done) Buf text = BUF_INIT(65536);
        CallMessage call = { 0 };
        ReplyMessage reply = { 0 };
        _cleanup_free_ char *wrong = NULL;
        ControlLogsAsk ask = { 0 };
        int r;

        status.agent = strdup("0.1");
        r = status.agent ? reply_message_print(&control_status_table, &status, false, &text)
                         : -ENOMEM;
        if (r >= 0)
                r = reply_message_parse(buf_str(&text), text.size - 1, &reply, reterr);
        if (r >= 0) {
                json_table_done(&control_status_table, &status);
                r = json_decode_value(reply.parameters, &control_status_table, JSON_LENIENT,
                                      &status, reterr);
        }
        buf_clear(&text);
        if (r >= 0)
                r = call_message_print("Logs", &control_logs_ask_table, &ask, true, &text);
        if (r >= 0)
                r = call_message_parse(buf_str(&text), text.size - 1, &call, reterr);
        if (r >= 0)
                r = parameters_decode(call.parameters, &control_logs_ask_table, &ask, &wrong);
        json_table_done(&control_logs_ask_table, &ask);
        json_table_done(&control_status_table, &status);
        call_message_done(&call);
        reply_message_done(&reply);
        return r;
}

static int run_proxy(Error **reterr) {
        static const char *const includes[] = { "/srv/a.conf", NULL };
        const ProxyConfig config = { .port = 80,
                                     .fixed_port = 5000,
                                     .slot_port_a = 5001,
                                     .slot_port_b = 5002,
                                     .slot_dir = "/srv/slot",
                                     .run_dir = "/run/x",
                                     .log_dir = "/var/log/x",
                                     .user = "www-data",
                                     .http_includes = includes,
                                     .server_includes = includes,
                                     .max_body_bytes = 7 };
        _cleanup_(buf_done) Buf text = BUF_INIT(65536);
        _cleanup_free_ char *command = NULL;
        int r;

        r = proxy_render(&config, &text, reterr);
        if (r < 0)
                return r;
        command = proxy_command("/usr/sbin/nginx", "/srv/nginx.conf", "/run/x");
        return command ? 0 : -ENOMEM;
}

/* clang-format off */
const Case cases[] = {
        { "config",        NULL, run_config,     NULL, CASE_NO_CALLS },
        { "yaml",          NULL, run_yaml,       NULL, CASE_NO_CALLS },
        { "json",          NULL, run_json,       NULL, CASE_NO_CALLS },
        { "plan-text",     NULL, run_plan_text,  NULL, CASE_NO_CALLS },
        { "desired",       NULL, run_desired,    NULL, CASE_NO_CALLS },
        { "state-text",    NULL, run_state_text, NULL, CASE_NO_CALLS },
        { "settings",      NULL, run_settings,   NULL, CASE_NO_CALLS },
        { "overlap",       NULL, run_overlap,    NULL, CASE_NO_CALLS },
        { "lane",          NULL, run_lane,       NULL, CASE_NO_CALLS },
        { "nonce",         NULL, run_nonce,      NULL, CASE_NO_CALLS },
        { "procfile",      NULL, run_procfile,   NULL, CASE_NO_CALLS },
        { "envelope",      NULL, run_envelope,   NULL, CASE_NO_CALLS | CASE_ANY_CODE },
        { "message",       NULL, run_message,    NULL, CASE_NO_CALLS },
        { "proxy",         NULL, run_proxy,      NULL, CASE_NO_CALLS },
        { 0 },
};
/* clang-format on */
