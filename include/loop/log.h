#pragma once

/*
 * One line a fact, to the journal with fields where it is there (sd_journal_sendv), else to stderr
 * for people. A thing is logged once, by the component that stops trying. base/ and cloud/ do not
 * log; helpers answer instead.
 *
 * Nothing is kept between calls: whether the journal is there is asked each time, the level is
 * TENDRIL_LOG_LEVEL (debug, info, notice, warning, err; default info). "There" means that stderr
 * leads to it ($JOURNAL_STREAM names stderr's file, systemd.exec(5)): an agent that somebody
 * started by hand speaks to that person.
 *
 * A message is one line of text: what a terminal could obey becomes '?', and it ends after
 * LOG_MESSAGE_BYTES.
 */

#include <stdbool.h>
#include <syslog.h>

#include "base/macro.h"

#define LOG_MESSAGE_BYTES 4096

/* Fields of a line; members may be NULL. */
typedef struct LogFields {
        const char *deploy_id;  /* DEPLOY_ID */
        const char *stage;      /* STAGE */
        const char *version;    /* VERSION */
        const char *hook;       /* HOOK */
        const char *message_id; /* MESSAGE_ID: 32 hexadecimal digits, with an entry in
                                   rpm/tendril.catalog */
} LogFields;

void log_fields(int priority, const LogFields *fields, const char *format, ...) _printf_(3, 4);

#define log_debug(...)   log_fields(LOG_DEBUG, NULL, __VA_ARGS__)
#define log_info(...)    log_fields(LOG_INFO, NULL, __VA_ARGS__)
#define log_notice(...)  log_fields(LOG_NOTICE, NULL, __VA_ARGS__)
#define log_warning(...) log_fields(LOG_WARNING, NULL, __VA_ARGS__)
#define log_error(...)   log_fields(LOG_ERR, NULL, __VA_ARGS__)

/* True where lines of this priority are shown: to avoid work for a line that is not. */
bool log_is_on(int priority);

/* Message ids (rpm/tendril.catalog tells the operator what each means and what to do). */
#define LOG_ID_DEPLOY_STARTED   "3b0c5a51f1d24d5f9d6c2c9a4e2f7a01"
#define LOG_ID_DEPLOY_DONE      "3b0c5a51f1d24d5f9d6c2c9a4e2f7a02"
#define LOG_ID_DEPLOY_FAILED    "3b0c5a51f1d24d5f9d6c2c9a4e2f7a03"
#define LOG_ID_ROLLED_BACK      "3b0c5a51f1d24d5f9d6c2c9a4e2f7a04"
#define LOG_ID_QUARANTINED      "3b0c5a51f1d24d5f9d6c2c9a4e2f7a05"
#define LOG_ID_REFUSED          "3b0c5a51f1d24d5f9d6c2c9a4e2f7a06"
#define LOG_ID_STORE_SILENT     "3b0c5a51f1d24d5f9d6c2c9a4e2f7a07"
#define LOG_ID_STATE_DAMAGED    "3b0c5a51f1d24d5f9d6c2c9a4e2f7a08"
#define LOG_ID_CONFIG_REFUSED   "3b0c5a51f1d24d5f9d6c2c9a4e2f7a09"
#define LOG_ID_PROCESS_FAILED   "3b0c5a51f1d24d5f9d6c2c9a4e2f7a0a"
#define LOG_ID_HELPER_FAILED    "3b0c5a51f1d24d5f9d6c2c9a4e2f7a0b"
#define LOG_ID_CONFINEMENT_LOST "3b0c5a51f1d24d5f9d6c2c9a4e2f7a0c"
#define LOG_ID_HOOK_FAILED      "3b0c5a51f1d24d5f9d6c2c9a4e2f7a0d"
#define LOG_ID_SWITCHED         "3b0c5a51f1d24d5f9d6c2c9a4e2f7a0e"
