# Completion for escherctl, which itself prints the candidates for the word at the cursor.
_escherctl() {
    # Bash splits words at = and :, and after one of them passes an empty word as $2.
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
