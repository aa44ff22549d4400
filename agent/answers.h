#pragma once

/* What the control socket asks, answered from the pipeline: the functions of ControlOps, and those
 * who wait. */

#include "agent/helpers.h"
#include "control/server.h"
#include "deploy/deploy.h"

typedef struct Answers Answers;

typedef struct AnswersSpec {
        sd_event *loop;
        Pipeline *pipeline;
        const char *host; /* copied */
        const Paths *paths;
        Helpers *helpers; /* borrowed */
        int (*reload)(void *userdata, char **ret_text, Error **reterr);
        void *userdata;
} AnswersSpec;

int answers_new(const AnswersSpec *spec, Answers **ret);
void answers_set_config(Answers *answers, const Config *config, const char *store_url);
int answers_set_host(Answers *answers, const char *host);
ControlOps answers_ops(Answers *answers);

/* Something that status shows has changed: those who wait or watch are told, from the loop. */
void answers_changed(Answers *answers);

Answers *answers_free(Answers *answers);
DEFINE_CLEANUP(Answers, answers_free);
