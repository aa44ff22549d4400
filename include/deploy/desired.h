#pragma once

/*
 * What the desired document and the head together ask of this host: a pure decision.
 */

#include "deploy/state.h"
#include "store/document.h"

typedef enum DesiredDecision {
        DESIRED_NOTHING = 1, /* what runs is what is wanted */
        DESIRED_DEPLOY,      /* *ret_ref is to be brought here */
        DESIRED_HELD,        /* a bundle was deployed by hand: `deploy --resume` ends that */
        DESIRED_PAUSED,      /* the rollout is paused */
        DESIRED_QUARANTINED, /* it failed here before */
        DESIRED_NONE,        /* nothing was ever assigned */
} DesiredDecision;

/* head NULL: not known (the desired document alone counts, as target). *ret_ref is borrowed from
 * the state. */
DesiredDecision desired_decide(const State *state, const HeadDocument *head,
                               const VersionRef **ret_ref);

/* Is a desired document acceptable here, after its signature? 0, or -EKEYREJECTED / -ESTALE with
 * words: another store or environment, a lower revision than the highest seen or configured. */
int desired_accept(const State *state, const DesiredDocument *doc, const char *store_id,
                   const char *environment, uint64_t min_revision, Error **reterr);
