# Completion of tendril(1) for bash. Verbs and options are read from the command's own --help, so that they cannot differ from it.
# shellcheck shell=bash

_tendril_help() {
        command tendril "$@" --help 2>/dev/null
}

# Lines "  name  text" behind "On this host:" and "On the store...:".
_tendril_verbs() {
        _tendril_help | sed -n '/^On th/,$s/^  \([a-z][a-z-]*\)  .*/\1/p'
}

_tendril_options() {
        _tendril_help "$@" | sed -n 's/^  \(--[a-z-]*\).*/\1/p'
}

# Ids of deploys: what history knows, if the agent answers.
_tendril_deploys() {
        command tendril history --all 2>/dev/null | awk 'NR > 1 { print $1 }'
}

_tendril_processes() {
        command tendril status 2>/dev/null | awk '/^PROCESS/ { on = 1; next } /^$/ { on = 0 } on { print $1 }'
}

# The first word that is no option and no value of one.
_tendril_verb() {
        local i
        for ((i = 1; i < COMP_CWORD; i++)); do
                case ${COMP_WORDS[i]} in
                --root | --socket) i=$((i + 1)) ;;
                -* | =) ;;
                *)
                        printf '%s\n' "${COMP_WORDS[i]}"
                        return
                        ;;
                esac
        done
}

_tendril() {
        local current=${COMP_WORDS[COMP_CWORD]} before=${COMP_WORDS[COMP_CWORD - 1]} verb words=
        verb=$(_tendril_verb)
        COMPREPLY=()

        case $before in
        --bundle | --socket | --key | --output) compopt -o default; return ;;
        --root | --keys | --policies) compopt -o dirnames; return ;;
        --deploy) words=$(_tendril_deploys) ;;
        --type) words='version desired' ;;
        --partition) words='aws aws-cn aws-us-gov' ;;
        --version | --app | --env | --timeout | --limit | --keep | --older-than | --set | --unset | --store | --key-id | --kms-key | --account)
                [ "$verb" ] && return
                ;;
        esac

        if [ -z "$words" ]; then
                case $verb:$current in
                help:* | :[!-]* | :) words="$(_tendril_verbs) help" ;;
                :-*) words=$(_tendril_options) ;;
                *:-*) words=$(_tendril_options "$verb") ;;
                history:* | logs:*) words=$(_tendril_deploys) ;;
                restart:*) words=$(_tendril_processes) ;;
                explain:*) words=credentials ;;
                config:*)
                        words='show check'
                        [ "$before" = check ] && { compopt -o default; return; }
                        ;;
                publish:* | sign:*) compopt -o default; return ;;
                esac
        fi
        mapfile -t COMPREPLY < <(compgen -W "$words" -- "$current")
}

complete -F _tendril tendril
