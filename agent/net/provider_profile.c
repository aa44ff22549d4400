/* The shared files: keys that stand there, or the program that one of them names. */

#include "net/provider.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>

#include "base/str.h"
#include "net/profile.h"

#define PROCESS_USEC SEC(60)
#define PROCESS_KILL SEC(2)

#define DEFAULT_PATH "/usr/local/bin:/usr/bin:/bin"

/* The two files and what they say of the profile. */
typedef struct Files {
        const char *name; /* of the profile */
        char *paths[2];   /* credentials, config; NULL: there is no HOME to look in */
        bool explicit[2]; /* the environment names the file */
        Profile said[2];
} Files;

static void files_done(Files *files) {
        for (size_t i = 0; i < 2; i++) {
                free(files->paths[i]);
                profile_done(&files->said[i]);
        }
}

static int find_files(const ProviderTry *t, Files *ret) {
        static const char *const variables[] = { "AWS_SHARED_CREDENTIALS_FILE", "AWS_CONFIG_FILE" };
        static const char *const names[] = { "credentials", "config" };
        const char *home = provider_env(t, "HOME");

        ret->name = provider_env(t, "AWS_PROFILE") ?: "default";
        for (size_t i = 0; i < 2; i++) {
                const char *given = provider_env(t, variables[i]);

                ret->explicit[i] = given != NULL;
                if (given)
                        ret->paths[i] = strdup(given);
                else if (home)
                        ret->paths[i] = str_format("%s/.aws/%s", home, names[i]);
                if ((given || home) && !ret->paths[i])
                        return -ENOMEM;
        }
        return 0;
}

/* A file in HOME that is not there, or not for us, is none; one that the environment names must be
 * there, but for the default place of the other one. */
static int read_file(Files *files, size_t i, Error **reterr) {
        _cleanup_secret_buf_ Buf text = BUF_INIT(PROFILE_BYTES);
        int r;

        if (!files->paths[i])
                return 0;
        r = secret_read_file(files->paths[i], &text);
        if (r < 0 && r != -ENOMEM && !files->explicit[i] &&
            (r == -ENOENT || r == -ENOTDIR || r == -EACCES))
                return 0;
        if (r < 0)
                return error_set(reterr, r, "read %s: %s", files->paths[i], strerror(-r));
        r = profile_read(buf_str(&text), text.size, files->name, i == 1, &files->said[i], reterr);
        return r < 0 ? error_wrap(reterr, r, "%s", files->paths[i]) : 0;
}

static int take_keys(ProviderTry *t, Profile *p, const char *name, const char *path,
                     Error **reterr) {
        int r;

        t->found = (Credentials){ .access_key_id = TAKE_PTR(p->access_key_id),
                                  .secret = TAKE_PTR(p->secret),
                                  .token = TAKE_PTR(p->token),
                                  .ends_usec = USEC_INFINITY };
        r = provider_check(&t->found, reterr);
        if (r < 0)
                return error_wrap(reterr, r, "profile %s of %s", name, path);
        r = provider_name(t, "profile %s", name);
        return r < 0 ? r : provider_say(t, PROVIDER_HAS, "has keys in %s", path);
}

/* ---- credential_process ---- */

/* Programs that warn before they answer do it into the same pipe: the answer is what stands between
 * the first brace that begins a line and the last. */
static Buf cut_answer(const Buf *text) {
        const char *begin = text->data, *end = memrchr(buf_str(text), '}', text->size);

        while (begin && *begin != '{') {
                begin = strchr(begin, '\n');
                begin = begin ? begin + 1 : NULL;
        }
        if (!begin || !end || end < begin)
                return (Buf){ 0 };
        return (Buf){ .data = text->data + (begin - text->data),
                      .size = (size_t) (end - begin) + 1 };
}

/* The program's own words are not repeated: they may hold what it was to answer. */
static int read_answer(ProviderTry *t, const ChildExit *how, Error **reterr) {
        Buf answer = cut_answer(&t->text);
        char words[96];
        int r;

        if (how->code != 0) {
                child_exit_text(how, words);
                return error_set(reterr, how->timed_out ? -ETIMEDOUT : -EIO, "%s: %s", t->name,
                                 words);
        }
        if (t->too_long)
                return error_set(reterr, -EFBIG, "%s said more than %zu bytes", t->name,
                                 PROVIDER_BYTES);
        if (answer.size == 0)
                return error_set(reterr, -EBADMSG, "%s said no JSON", t->name);
        r = provider_read_json(answer.data, answer.size, &t->found, reterr);
        return r < 0 ? error_wrap(reterr, r, "%s", t->name) : 0;
}

/* All that is there now. */
static void read_output(ProviderTry *t) {
        char bytes[4096];
        ssize_t n;

        do {
                n = read(t->output_fd, bytes, sizeof(bytes));
                if (n > 0 && buf_append(&t->text, bytes, (size_t) n) < 0)
                        t->too_long = true;
        } while ((n > 0 && !t->too_long) || (n < 0 && errno == EINTR));
        explicit_bzero(bytes, sizeof(bytes));
        if (n == 0 || t->too_long)
                t->output = sd_event_source_disable_unref(t->output);
        if (t->too_long)
                child_kill(t->child);
}

static int on_output(_unused_ sd_event_source *s, _unused_ int fd, _unused_ uint32_t events,
                     void *userdata) {
        read_output(userdata);
        return 0;
}

static void on_exit_of(_unused_ Child *child, const ChildExit *how, void *userdata) {
        _cleanup_(error_freep) Error *err = NULL;
        ProviderTry *t = userdata;
        int r;

        if (t->output)
                read_output(t);
        if (t->too_long)
                r = read_answer(t, &(const ChildExit){ .code = 0 }, &err);
        else
                r = read_answer(t, how, &err);
        if (r >= 0)
                r = provider_name(t, "credential_process");
        if (r >= 0)
                r = provider_say(t, PROVIDER_HAS, "%s has answered", t->name);
        t->done(t, r, err);
}

static int add_variable(const ProviderTry *t, char ***env, const char *name,
                        const char *otherwise) {
        const char *value = provider_env(t, name) ?: otherwise;
        _cleanup_free_ char *text = NULL;

        if (!value)
                return 0;
        text = str_format("%s=%s", name, value);
        return text ? strv_add(env, 8, text) : -ENOMEM;
}

static int make_environment(const ProviderTry *t, char ***ret) {
        /* What the AWS CLI needs to find the profile that it is asked for. */
        static const char *const names[] = {
                "HOME",       "AWS_PROFILE",       "AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE",
                "AWS_REGION", "AWS_DEFAULT_REGION"
        };
        int r;

        r = add_variable(t, ret, "PATH", DEFAULT_PATH);
        for (size_t i = 0; i < ELEMENTS(names) && r >= 0; i++)
                r = add_variable(t, ret, names[i], NULL);
        return r;
}

static int run_process(ProviderTry *t, const char *command, Error **reterr) {
        _cleanup_(strv_freep) char **words = NULL, **env = NULL;
        _cleanup_close_ int write_fd = -EBADF;
        int fds[2], r;

        r = profile_split(command, &words, reterr);
        if (r < 0)
                return r;
        r = make_environment(t, &env);
        if (r < 0)
                return r;
        t->name = str_printable(words[0], strlen(words[0]));
        if (!t->name || !buf_reserve(&t->text, PROVIDER_BYTES))
                return -ENOMEM;
        if (pipe2(fds, O_CLOEXEC) < 0)
                return error_set(reterr, -errno, "credential_process: a pipe: %s", strerror(errno));
        t->output_fd = fds[0];
        write_fd = fds[1];
        if (fcntl(t->output_fd, F_SETFL, O_NONBLOCK) < 0)
                return -errno;

        r = sd_event_add_io(t->spec->loop, &t->output, t->output_fd, EPOLLIN, on_output, t);
        if (r < 0)
                return r;
        return child_spawn(t->spec->loop,
                           &(ChildSpec){ .name = "credential_process",
                                         .argv = words,
                                         .env = env,
                                         .output_fd = write_fd,
                                         .umask = 077,
                                         .flags = CHILD_PDEATHSIG | CHILD_NO_NEW_PRIVS,
                                         .timeout_usec = PROCESS_USEC,
                                         .kill_usec = PROCESS_KILL,
                                         .on_exit = on_exit_of,
                                         .userdata = t },
                           &t->child, reterr);
}

/* ---- the choice ---- */

static bool has_keys(const Profile *p) {
        return p->access_key_id || p->secret;
}

/* Keys of the credentials file, the program of either, keys of the config file, as botocore has it.
 * A role or single sign-on goes before all of them there, so they are not used in its place. */
static int choose(ProviderTry *t, Files *files, Error **reterr) {
        Profile *credentials = &files->said[0], *config = &files->said[1];
        const char *foreign = credentials->foreign ?: config->foreign,
                   *process = credentials->process ?: config->process;

        if (foreign)
                return error_set(reterr, -EOPNOTSUPP,
                                 "profile %s has %s, which is not supported here. A profile with "
                                 "credential_process = aws configure export-credentials --profile "
                                 "%s would be",
                                 files->name, foreign, files->name);
        if (has_keys(credentials))
                return take_keys(t, credentials, files->name, files->paths[0], reterr);
        if (process)
                return run_process(t, process, reterr);
        if (has_keys(config))
                return take_keys(t, config, files->name, files->paths[1], reterr);
        /* Who names a config file alone may want its region only. */
        if (provider_env(t, "AWS_PROFILE") || files->explicit[0])
                return error_set(reterr, -ENOENT, "profile %s %s", files->name,
                                 credentials->found || config->found
                                         ? "has neither keys nor credential_process"
                                         : "stands in neither file");
        return provider_say(t, PROVIDER_NONE, "no profile default with keys in %s or %s",
                            files->paths[0] ?: "no file", files->paths[1] ?: "no file");
}

static int profile_begin(ProviderTry *t, Error **reterr) {
        _cleanup_(files_done) Files files = { 0 };
        int r;

        r = find_files(t, &files);
        if (r < 0)
                return r;
        if (!files.paths[0] && !files.paths[1] && !provider_env(t, "AWS_PROFILE"))
                return provider_say(t, PROVIDER_NONE,
                                    "neither HOME nor AWS_SHARED_CREDENTIALS_FILE is set");
        for (size_t i = 0; i < 2; i++) {
                r = read_file(&files, i, reterr);
                if (r < 0)
                        return r;
        }
        return choose(t, &files, reterr);
}

const Provider provider_profile = { "shared files", profile_begin };
