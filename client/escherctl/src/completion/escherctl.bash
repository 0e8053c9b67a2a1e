# Completion for escherctl, which is asked itself what could stand at the cursor.
_escherctl() {
    # Bash breaks words at = and : and then says that there is nothing yet at the cursor.
    local word=${COMP_WORDS[COMP_CWORD]}
    [[ $word == [=:]* ]] || word=$2
    mapfile -t COMPREPLY < <(
        ESCHER_COMPLETE=bash escherctl -- "${COMP_WORDS[@]:0:COMP_CWORD}" "$word" 2>/dev/null
    )
    if [[ ${#COMPREPLY[@]} == 1 && ${COMPREPLY[0]} == *[=/.] ]]; then
        compopt -o nospace
    fi
}
complete -o nosort -F _escherctl escherctl
