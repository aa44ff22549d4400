#include "settings/overlap.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/str.h"

/* ---- command lines ---- */

static void ports_in_command_lines(void **state) {
        static const struct {
                const char *command;
                uint64_t port;
        } rows[] = {
                { "node server.js", 0 },
                { "", 0 },
                { "python app.py --port 5000", 5000 },
                { "python app.py --port=8080", 8080 },
                { "python app.py --port=\"8080\"", 8080 },
                { "python app.py --port '8080'", 8080 },
                { "rails server -p 3000", 3000 },
                { "rails server -p3000", 3000 },
                { "rails server -p $PORT", 0 },
                { "rails server -p ${PORT:-5000}", 0 },
                { "gunicorn --bind :8000 --workers 3 app", 8000 },
                { "gunicorn --bind=:8000 app", 8000 },
                { "gunicorn --bind :$PORT app", 0 },
                { "gunicorn -b 0.0.0.0:8080 app", 8080 },
                { "gunicorn -b 127.0.0.1:8000 app", 8000 },
                { "gunicorn --bind=127.0.0.1:8000 app", 8000 },
                { "gunicorn -b [::]:8000 app", 8000 },
                { "gunicorn -b unix:/run/app.sock app", 0 },
                { "puma -b tcp://0.0.0.0:9292", 9292 },
                { "puma -b tcp://0.0.0.0:$PORT", 0 },
                { "dotnet app.dll --urls http://*:5001", 5001 },
                { "dotnet app.dll --urls http://+:5001/", 5001 },
                { "java -Dserver.port=8080 -jar x.jar", 8080 },
                { "java -jar x.jar --server.port=8080 -Xms256m", 8080 },
                { "java -Dserver.port=${PORT:5000} -jar x.jar", 0 },
                { "java -Dserver.port=$PORT -jar x.jar", 0 },
                { "PORT=5000 node server.js", 5000 },
                { "env PORT=8081 ./run", 8081 },
                { "HTTP_PORT=8081 ./run", 8081 },
                { "node --httpPort 8081", 8081 },
                { "bash -c 'exec ./run --port 7000'", 7000 },
                { "php -S 0.0.0.0:8000", 8000 },
                { "python3 -m http.server 8000", 8000 },
                { "python3 app.py 5000", 5000 }, /* the application's usual port */
                { "python3 app.py 5001", 0 },
                { "python3 app.py localhost:5000", 5000 },
                /* of others, or no ports at all */
                { "worker --redis redis://localhost:6379", 0 },
                { "worker redis://:6379/0", 0 },
                { "worker --db postgres://u:p@db:5432/x", 0 },
                { "worker --db-port 5432", 0 },
                { "REDIS_PORT=6379 ./run", 0 },
                { "DB_PORT=5432 ./run", 0 },
                { "worker --api http://localhost:9000/x", 0 },
                { "worker --api http://example.com:80/", 0 },
                { "./run --report 5001", 0 },
                { "./run --workers 4 --timeout 120", 0 },
                { "./run --port 70000", 0 },
                { "./run --port 0", 0 },
                { "./run --port 123456", 0 },
                { "./run --port", 0 },
                { "./run --port --debug", 0 },
                { "./run --port=", 0 },
                { "./run -p", 0 },
                { "./run :", 0 },
                { "./run = :=:", 0 },
                { "./run --metrics-port 9090 --port $PORT", 0 },
        };
        size_t i;

        (void) state;
        for (i = 0; i < ELEMENTS(rows); i++)
                if (overlap_scan_command(rows[i].command, 5000) != rows[i].port)
                        fail_msg("%s: %llu instead of %llu", rows[i].command,
                                 (unsigned long long) overlap_scan_command(rows[i].command, 5000),
                                 (unsigned long long) rows[i].port);
}

static void marks_of_single_instances(void **state) {
        static const struct {
                const char *command;
                const char *mark;
        } rows[] = {
                { "celery -A app worker -B", "celery beat" },
                { "celery -A app worker --beat -l info", "celery beat" },
                { "celery -A app beat", "celery beat" },
                { "/var/app/venv/bin/celery beat -A app", "celery beat" },
                { "python -m celery -A app beat", "celery beat" },
                { "celerybeat", "celery beat" },
                { "celery -A app worker -l info", NULL },
                { "celery -A app worker -b redis://x", NULL },
                { "drum beat", NULL },
                { "cron -f", "cron" },
                { "/usr/sbin/crond -n", "cron" },
                { "exec supercronic crontab", "cron" },
                { "sh -c 'crond && ./run'", "cron" },
                { "./cronological", NULL },
                { "./run --db sqlite:///data.db", "SQLite" },
                { "./run data.SQLite3", "SQLite" },
                { "./run", NULL },
                { "", NULL },
        };
        size_t i;

        (void) state;
        for (i = 0; i < ELEMENTS(rows); i++)
                if (!str_equal(overlap_single_instance(rows[i].command), rows[i].mark))
                        fail_msg("%s: %s", rows[i].command,
                                 overlap_single_instance(rows[i].command) ?: "nothing");
}

/* ---- the decision ---- */

typedef struct Case {
        const char *why; /* part of the sentence */
        Overlap mode;
        uint64_t port;
        Overlap wanted;
        bool idle;
        const char *web;
        const char *worker;
        const char *property; /* name=value */
        uint64_t user_port;
        bool insisted;
        bool no_view;
        uint64_t available_mb;
        uint64_t peak_mb;
} Case;

static const Case cases[] = {
        { "nothing speaks against it", OVERLAP_WEB, .wanted = OVERLAP_WEB, .web = "node x.js" },
        { "nothing speaks against it", OVERLAP_WEB, .wanted = OVERLAP_WEB },
        { "the setting says all", OVERLAP_ALL, .wanted = OVERLAP_ALL, .web = "node x.js",
          .worker = "node w.js" },
        { "the setting says none", OVERLAP_NONE, .wanted = OVERLAP_NONE, .web = "node x.js" },
        { "nothing runs yet", OVERLAP_NONE, .wanted = OVERLAP_ALL, .idle = true,
          .web = "node x.js" },
        { "nothing runs yet", OVERLAP_NONE, 8080, .wanted = OVERLAP_WEB, .idle = true,
          .web = "node x.js", .user_port = 8080 },
        { "nothing runs yet", OVERLAP_NONE, 5000, .wanted = OVERLAP_WEB, .idle = true,
          .web = "x --port 5000" },
        /* a port that it insists on */
        { "port 8080, which the property PORT", OVERLAP_NONE, 8080, .wanted = OVERLAP_WEB,
          .web = "node x.js", .user_port = 8080 },
        { "web asks for port 5000", OVERLAP_NONE, 5000, .wanted = OVERLAP_ALL,
          .web = "x --port 5000" },
        { "web asks for port 9090", OVERLAP_NONE, 0, .wanted = OVERLAP_WEB,
          .web = "x --metrics-port 9090 --port $PORT" },
        { "seen to listen where it wants", OVERLAP_NONE, .wanted = OVERLAP_WEB, .web = "node x.js",
          .insisted = true },
        /* what must be one */
        { "celery beat", OVERLAP_NONE, .wanted = OVERLAP_WEB, .web = "celery worker -B" },
        { "web must not run twice (cron", OVERLAP_NONE, .wanted = OVERLAP_WEB, .web = "cron -f" },
        { "SQLite file of property DATABASE_URL", OVERLAP_NONE, .wanted = OVERLAP_WEB,
          .web = "node x.js", .property = "DATABASE_URL=sqlite:///x.db" },
        { "nothing speaks against it", OVERLAP_WEB, .wanted = OVERLAP_WEB, .web = "node x.js",
          .property = "DATABASE_URL=postgres://x" },
        /* beside the proxied one: only "all" would run two of it */
        { "nothing speaks against it", OVERLAP_WEB, .wanted = OVERLAP_WEB, .web = "node x.js",
          .worker = "celery worker -B" },
        { "worker must not run twice (celery beat", OVERLAP_WEB, .wanted = OVERLAP_ALL,
          .web = "node x.js", .worker = "celery worker -B" },
        { "worker asks for port 9000", OVERLAP_WEB, .wanted = OVERLAP_ALL, .web = "node x.js",
          .worker = "x --port 9000" },
        /* the host */
        { "no mount namespace", OVERLAP_NONE, .wanted = OVERLAP_ALL, .web = "node x.js",
          .no_view = true },
        { "119 MB are available, 120 MB are wanted", OVERLAP_NONE, .wanted = OVERLAP_WEB,
          .web = "node x.js", .available_mb = 119, .peak_mb = 100 },
        { "nothing speaks against it", OVERLAP_WEB, .wanted = OVERLAP_WEB, .web = "node x.js",
          .available_mb = 120, .peak_mb = 100 },
        { "nothing speaks against it", OVERLAP_WEB, .wanted = OVERLAP_WEB, .web = "node x.js",
          .available_mb = 0, .peak_mb = 100 },
        { "nothing speaks against it", OVERLAP_WEB, .wanted = OVERLAP_WEB, .web = "node x.js",
          .available_mb = 1, .peak_mb = 0 },
        { "119 MB are available", OVERLAP_NONE, .wanted = OVERLAP_ALL, .web = "node x.js",
          .worker = "w", .available_mb = 119, .peak_mb = 100 },
};

static void run_case(const Case *c) {
        char web[256], worker[256], name_web[] = "web", name_worker[] = "worker";
        PlanProcess processes[2] = { { name_web, web }, { name_worker, worker } };
        _cleanup_(json_map_done) JsonMap properties = { 0 };
        _cleanup_free_ char *name = NULL;
        Plan plan = { .processes = { processes, c->web ? c->worker ? 2 : 1 : 0 } };
        OverlapInput input = {
                .wanted = c->wanted,
                .runs = !c->idle,
                .plan = &plan,
                .properties = &properties,
                .user_port = c->user_port,
                .fixed_port = 5000,
                .insisted = c->insisted,
                .view = !c->no_view,
                .available_bytes = c->available_mb << 20,
                .peak_bytes = c->peak_mb << 20,
        };
        OverlapDecision decision;

        (void) snprintf(web, sizeof(web), "%s", c->web ?: "");
        (void) snprintf(worker, sizeof(worker), "%s", c->worker ?: "");
        if (c->property) {
                name = strndup(c->property, strcspn(c->property, "="));
                assert_int_equal(json_map_set(&properties, 8, name, strchr(c->property, '=') + 1),
                                 0);
        }

        overlap_decide(&input, &decision);
        if (decision.mode != (int) c->mode || decision.port != c->port ||
            !strstr(decision.why, c->why))
                fail_msg("case %zu: mode %s, port %llu, why: %s", (size_t) (c - cases),
                         overlap_names[decision.mode], (unsigned long long) decision.port,
                         decision.why);
}

static void decisions(void **state) {
        size_t i;

        (void) state;
        for (i = 0; i < ELEMENTS(cases); i++)
                run_case(&cases[i]);
}

/* Whatever else is so: never more than what is wanted. */
static void never_widened(void **state) {
        OverlapInput input = { .runs = true, .view = true };
        OverlapDecision decision;

        (void) state;
        for (input.wanted = 0; input.wanted < _OVERLAP_MAX; input.wanted++) {
                overlap_decide(&input, &decision);
                assert_int_equal(decision.mode, input.wanted);
                assert_true(strlen(decision.why) > 0);
        }
}

/* A command of any length fits into the sentence. */
static void long_names_are_cut(void **state) {
        char name[600], command[] = "x --port 5000";
        PlanProcess process = { name, command };
        Plan plan = { .processes = { &process, 1 } };
        OverlapInput input = { .runs = true, .view = true, .plan = &plan };
        OverlapDecision decision;

        (void) state;
        memset(name, 'n', sizeof(name) - 1);
        name[sizeof(name) - 1] = '\0';
        overlap_decide(&input, &decision);
        assert_int_equal(strlen(decision.why), sizeof(decision.why) - 1);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(ports_in_command_lines),
                cmocka_unit_test(marks_of_single_instances),
                cmocka_unit_test(decisions),
                cmocka_unit_test(never_widened),
                cmocka_unit_test(long_names_are_cut),
        };

        return cmocka_run_group_tests_name("overlap", tests, NULL, NULL);
}
