#include "settings/overlap.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "base/str.h"

/* A piece of a command line: not NUL-terminated. */
typedef struct Word {
        const char *at;
        size_t n;
} Word;

typedef struct Scan {
        uint64_t fixed_port;
        uint64_t port;  /* of the application itself */
        uint64_t other; /* of something beside it: metrics, a debugger */
} Scan;

/* ---- words ---- */

/* Quotes count as blanks: what stands in `sh -c "..."` is a command line too. */
static bool next_word(const char **rest, Word *ret) {
        static const char separators[] = " \t\r\n\"'`;|&()<>";

        *rest += strspn(*rest, separators);
        *ret = (Word){ *rest, strcspn(*rest, separators) };
        *rest += ret->n;
        return ret->n > 0;
}

static bool word_is(Word word, const char *text) {
        return strlen(text) == word.n && strncasecmp(word.at, text, word.n) == 0;
}

static bool word_is_any(Word word, const char *const *list) {
        for (; *list; list++)
                if (word_is(word, *list))
                        return true;
        return false;
}

static bool word_has(Word word, const char *text) {
        size_t i, n = strlen(text);

        for (i = 0; i + n <= word.n; i++)
                if (strncasecmp(word.at + i, text, n) == 0)
                        return true;
        return false;
}

static bool word_has_any(Word word, const char *const *list) {
        for (; *list; list++)
                if (word_has(word, *list))
                        return true;
        return false;
}

static Word word_from(Word word, size_t at) {
        return (Word){ word.at + at, word.n - at };
}

/* The place of the last c; word.n where there is none. */
static size_t word_last(Word word, char c) {
        size_t i;

        for (i = word.n; i > 0; i--)
                if (word.at[i - 1] == c)
                        return i - 1;
        return word.n;
}

static Word word_basename(Word word) {
        size_t at = word_last(word, '/');

        return at < word.n ? word_from(word, at + 1) : word;
}

/* 1 to 65535, of digits only; else 0. */
static uint64_t word_port(Word word) {
        uint64_t port = 0;
        size_t i;

        if (word.n > 5)
                return 0;
        for (i = 0; i < word.n; i++) {
                if (word.at[i] < '0' || word.at[i] > '9')
                        return 0;
                port = 10 * port + (uint64_t) (word.at[i] - '0');
        }
        return port <= 65535 ? port : 0;
}

/* ---- ports ---- */

/* "port", "--port", "server.port", "HTTP_PORT", "httpPort"; not "report". */
static bool names_port(Word name) {
        char before, p;

        if (name.n < 4 || !word_is(word_from(name, name.n - 4), "port"))
                return false;
        if (name.n == 4)
                return true;

        before = name.at[name.n - 5];
        p = name.at[name.n - 4];
        return strchr("-_.:", before) || (p == 'P' && before >= 'a' && before <= 'z');
}

/* In front of an address to listen at. */
static bool names_address(Word name) {
        static const char *const names[] = { "-b",     "--bind",   "-l",        "--listen",
                                             "-a",     "--addr",   "--address", "--host",
                                             "--urls", "bind",     "addr",      "address",
                                             "-addr",  "-address", "-bind",     NULL };

        return word_is_any(name, names);
}

/* In front of a bare number, which is then a port. */
static bool names_number(Word name) {
        static const char *const names[] = { "-p",          "--listen", "-listen", "listen",
                                             "--bind",      "--http",   "-http",   "--https",
                                             "http.server", NULL };

        return names_port(name) || word_is_any(name, names);
}

/* Of a service that the application asks, not one that it is. */
static bool is_foreign(Word name) {
        static const char *const names[] = { "db",     "sql",      "redis",  "mongo",
                                             "amqp",   "rabbit",   "smtp",   "mail",
                                             "cache",  "kafka",    "remote", "upstream",
                                             "target", "postgres", "peer",   NULL };

        return word_has_any(name, names);
}

static bool is_beside(Word name) {
        static const char *const names[] = { "metric",     "debug",   "admin", "manage",
                                             "jmx",        "rmi",     "stat",  "monitor",
                                             "prometheus", "inspect", NULL };

        return word_has_any(name, names);
}

static void found(Scan *scan, Word name, uint64_t port) {
        uint64_t *place = is_beside(name) ? &scan->other : &scan->port;

        if (port > 0 && !is_foreign(name) && *place == 0)
                *place = port;
}

/* Takes "scheme://" off; false where the scheme is one that only clients write. */
static bool strip_scheme(Word *address) {
        static const char *const served[] = { "tcp", "ssl", "http", "https", "ws", "wss", NULL };
        size_t i;

        for (i = 0; i + 3 <= address->n; i++)
                if (strncmp(address->at + i, "://", 3) == 0) {
                        if (!word_is_any((Word){ address->at, i }, served))
                                return false;
                        *address = word_from(*address, i + 3);
                        return true;
                }
        return true;
}

/* host:port with anything behind a slash. name: the option in front of it. */
static void scan_address(Scan *scan, Word name, Word address) {
        static const char *const all[] = { "", "0.0.0.0", "*", "+", "[::]", "::", NULL };
        static const char *const own[] = { "127.0.0.1", "localhost", "[::1]", NULL };
        uint64_t port;
        size_t at;
        Word host;

        if (!strip_scheme(&address))
                return;

        for (at = 0; at < address.n && address.at[at] != '/' && address.at[at] != '?';)
                at++;
        address.n = at;

        at = word_last(address, ':');
        if (at == address.n)
                return;
        host = (Word){ address.at, at };
        port = word_port(word_from(address, at + 1));
        if (word_is_any(host, all) ||
            (word_is_any(host, own) &&
             (names_address(name) || names_number(name) || port == scan->fixed_port)))
                found(scan, name, port);
}

/* One value with the name that stands in front of it: "--port" "5000". */
static void scan_value(Scan *scan, Word name, Word value) {
        uint64_t port = word_port(value);

        if (port == 0)
                scan_address(scan, name, value);
        else if (names_number(name) || port == scan->fixed_port)
                found(scan, name, port);
}

static void scan_word(Scan *scan, Word before, Word word) {
        size_t at;

        for (at = 0; at < word.n && word.at[at] != '=';)
                at++;
        if (at < word.n)
                scan_value(scan, (Word){ word.at, at }, word_from(word, at + 1));
        else if (word.n > 2 && strncmp(word.at, "-p", 2) == 0 && word_port(word_from(word, 2)) > 0)
                found(scan, (Word){ word.at, 2 }, word_port(word_from(word, 2)));
        else
                scan_value(scan, before, word);
}

static Scan scan_command(const char *command, uint64_t fixed_port) {
        Scan scan = { .fixed_port = fixed_port };
        Word before = { "", 0 }, word;

        while (next_word(&command, &word)) {
                scan_word(&scan, before, word);
                /* `--port="5000"`: the quote has cut the name from its value. */
                if (word.n > 1 && word.at[word.n - 1] == '=')
                        word.n--;
                before = word;
        }
        return scan;
}

uint64_t overlap_scan_command(const char *command, uint64_t fixed_port) {
        assert(command);

        return scan_command(command, fixed_port).port;
}

/* ---- what must be one ---- */

static bool is_beat(Word word) {
        return word_is(word, "beat") || word_is(word, "--beat") ||
               (word.n >= 2 && strncmp(word.at, "-B", 2) == 0);
}

const char *overlap_single_instance(const char *command) {
        static const char *const crons[] = { "cron",   "crond",     "supercronic", "go-cron",
                                             "yacron", "clockwork", "rqscheduler", NULL };
        bool celery = false;
        Word word, name;

        assert(command);

        if (strcasestr(command, "sqlite"))
                return "SQLite";

        while (next_word(&command, &word)) {
                name = word_basename(word);
                if (word_is_any(name, crons))
                        return "cron";
                if (word_is(name, "celerybeat") || (celery && is_beat(word)))
                        return "celery beat";
                celery = celery || word_is(name, "celery");
        }
        return NULL;
}

/* The name of a property that leads to an SQLite file, or NULL. */
static const char *sqlite_property(const JsonMap *properties) {
        size_t i;

        for (i = 0; properties && i < properties->n; i++)
                if (strcasestr(properties->pairs[i].value, "sqlite"))
                        return properties->pairs[i].name;
        return NULL;
}

/* ---- deciding ---- */

static const PlanProcess *plan_process(const Plan *plan, size_t i) {
        if (!plan || i >= plan->processes.n)
                return NULL;
        return (const PlanProcess *) plan->processes.items + i;
}

static void _printf_(3, 4) decide(OverlapDecision *d, Overlap mode, const char *format, ...) {
        va_list ap;

        d->mode = (int) mode;
        va_start(ap, format);
        (void) vsnprintf(d->why, sizeof(d->why), format, ap);
        va_end(ap);
}

/* Why two of this process cannot run, in words behind its name; NULL: they can. buf is for the
 * words. */
static const char *process_refuses(const PlanProcess *process, uint64_t fixed_port, char *buf,
                                   size_t size) {
        Scan scan = scan_command(process->command, fixed_port);
        const char *mark = overlap_single_instance(process->command);

        if (scan.port > 0 || scan.other > 0)
                (void) snprintf(buf, size, "asks for port %llu in its command",
                                (unsigned long long) (scan.port > 0 ? scan.port : scan.other));
        else if (mark)
                (void) snprintf(buf, size, "must not run twice (%s in its command)", mark);
        else
                return NULL;
        return buf;
}

/* What speaks against two of the proxied process. */
static bool decide_web(const OverlapInput *in, const PlanProcess *web, OverlapDecision *d) {
        const char *property = sqlite_property(in->properties), *words = NULL;
        char buf[128];

        if (in->user_port > 0) {
                decide(d, OVERLAP_NONE,
                       "two cannot listen on port %llu, which the property PORT asks for",
                       (unsigned long long) in->user_port);
                return true;
        }
        if (web)
                words = process_refuses(web, in->fixed_port, buf, sizeof(buf));
        if (words)
                decide(d, OVERLAP_NONE, "%s %s", web->name, words);
        else if (in->insisted)
                decide(d, OVERLAP_NONE,
                       "the application was seen to listen where it wants, not where PORT says");
        else if (property)
                decide(d, OVERLAP_NONE, "two must not write to the SQLite file of property %s",
                       property);
        return words || in->insisted || property;
}

static bool decide_host(const OverlapInput *in, OverlapDecision *d) {
        uint64_t wanted;

        if (!in->view) {
                decide(d, OVERLAP_NONE,
                       "this host cannot give each of two versions its own /var/app/current (no "
                       "mount namespace)");
                return true;
        }

        wanted = in->peak_bytes + in->peak_bytes / 5;
        if (in->peak_bytes == 0 || in->available_bytes == 0 || in->available_bytes >= wanted)
                return false;

        decide(d, OVERLAP_NONE,
               "memory does not hold both: %llu MB are available, %llu MB are wanted (the running "
               "one's peak and a fifth)",
               (unsigned long long) (in->available_bytes >> 20),
               (unsigned long long) (wanted >> 20));
        return true;
}

/* With "all" the processes beside the proxied one run twice too. */
static bool decide_others(const OverlapInput *in, OverlapDecision *d) {
        const PlanProcess *process;
        const char *words;
        char buf[128];
        size_t i;

        for (i = 1; (process = plan_process(in->plan, i)); i++) {
                words = process_refuses(process, in->fixed_port, buf, sizeof(buf));
                if (!words)
                        continue;
                decide(d, OVERLAP_WEB, "%s %s; the proxied process overlaps alone", process->name,
                       words);
                return true;
        }
        return false;
}

void overlap_decide(const OverlapInput *in, OverlapDecision *ret) {
        const PlanProcess *web;

        assert(in);
        assert(ret);

        *ret = (OverlapDecision){ 0 };
        web = plan_process(in->plan, 0);
        ret->port = in->user_port;
        if (ret->port == 0 && web)
                ret->port = overlap_scan_command(web->command, in->fixed_port);

        if (!in->runs)
                decide(ret, OVERLAP_NONE, "nothing runs yet");
        else if (in->wanted == OVERLAP_NONE)
                decide(ret, OVERLAP_NONE, "the setting says none");
        else if (decide_web(in, web, ret) || decide_host(in, ret))
                return;
        else if (in->wanted == OVERLAP_ALL && !decide_others(in, ret))
                decide(ret, OVERLAP_ALL, "the setting says all, and nothing speaks against it");
        else if (in->wanted != OVERLAP_ALL)
                decide(ret, OVERLAP_WEB, "nothing speaks against it");
}
