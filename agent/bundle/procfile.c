#include <ctype.h>
#include <errno.h>
#include <string.h>

#include "agent/limits.h"
#include "base/str.h"
#include "bundle/bundle.h"

#define NAME_BYTES 64

static bool is_name_char(char c) {
        return isalnum((unsigned char) c) || c == '_' || c == '-';
}

static bool is_blank(char c) {
        return c == ' ' || c == '\t';
}

/* What stands in the middle of a text that need not end with a NUL. */
static char *copy(const char *text, size_t size) {
        char *made = calloc(1, size + 1);

        if (made)
                memcpy(made, text, size);
        return made;
}

static const PlanProcess *find(const JsonArray *array, const char *name) {
        const PlanProcess *processes = array->items;

        for (size_t i = 0; i < array->n; i++)
                if (str_equal(processes[i].name, name))
                        return &processes[i];
        return NULL;
}

static int add(JsonArray *array, const char *name, size_t name_size, const char *command,
               size_t command_size) {
        PlanProcess *process = json_array_add(array, &plan_process_table, LIMIT_PROCESSES);

        if (!process)
                return -ENOMEM;
        process->name = copy(name, name_size);
        process->command = copy(command, command_size);
        return process->name && process->command ? 0 : -ENOMEM;
}

/* What is wrong with a line that is neither blank nor a comment; NULL: nothing, and its parts are
 * set. */
static const char *split(const char *line, size_t size, size_t *ret_name_size,
                         size_t *ret_command) {
        size_t n = 0, at;

        while (n < size && is_name_char(line[n]))
                n++;
        if (n == 0)
                return "expected \"name: command\", with a name of letters, digits, \"_\" and "
                       "\"-\"";
        if (n == size || line[n] != ':')
                return "expected a \":\" behind the name (letters, digits, \"_\" and \"-\")";
        if (n > NAME_BYTES)
                return "the name is longer than 64 bytes";

        at = n + 1;
        while (at < size && is_blank(line[at]))
                at++;
        if (at == size)
                return "there is no command behind the name";
        if (size - at > LIMIT_COMMAND_BYTES)
                return "the command is longer than 8192 bytes";
        *ret_name_size = n;
        *ret_command = at;
        return NULL;
}

static int parse_line(const char *line, size_t size, const char *file, unsigned number,
                      JsonArray *ret, Error **reterr) {
        _cleanup_free_ char *name = NULL;
        size_t name_size = 0, command = 0;
        const char *fault;

        while (size > 0 && (is_blank(line[size - 1]) || line[size - 1] == '\r'))
                size--;
        if (size == 0 || line[0] == '#')
                return 0;
        for (size_t i = 0; i < size; i++)
                if ((unsigned char) line[i] < ' ' && line[i] != '\t')
                        return error_set(reterr, -EBADMSG, "%s:%u: a control character", file,
                                         number);

        fault = split(line, size, &name_size, &command);
        if (fault)
                return error_set(reterr, -EBADMSG, "%s:%u: %s", file, number, fault);
        name = copy(line, name_size);
        if (!name)
                return -ENOMEM;
        if (find(ret, name))
                return error_set(reterr, -EBADMSG, "%s:%u: a second entry \"%s\"", file, number,
                                 name);
        if (ret->n >= LIMIT_PROCESSES)
                return error_set(reterr, -EBADMSG, "%s:%u: more than %d entries", file, number,
                                 LIMIT_PROCESSES);
        return add(ret, line, name_size, line + command, size - command);
}

int procfile_parse(const char *text, size_t size, const char *file, JsonArray *ret,
                   Error **reterr) {
        unsigned number = 0;
        int r;

        if (size > LIMIT_PROCFILE_BYTES)
                return error_set(reterr, -EBADMSG, "%s: longer than %d bytes", file,
                                 LIMIT_PROCFILE_BYTES);
        if (!str_is_utf8(text, size, false))
                return error_set(reterr, -EBADMSG, "%s: not valid UTF-8", file);
        /* Editors of Windows put a byte order mark in front. */
        if (size >= 3 && memcmp(text, "\xef\xbb\xbf", 3) == 0) {
                text += 3;
                size -= 3;
        }

        while (size > 0) {
                const char *end = memchr(text, '\n', size);
                size_t n = end ? (size_t) (end - text) : size;

                r = parse_line(text, n, file, ++number, ret, reterr);
                if (r < 0)
                        return r;
                n += end ? 1 : 0;
                text += n;
                size -= n;
        }
        return 0;
}
