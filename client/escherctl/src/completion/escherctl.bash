# Completion for escherctl, which itself prints the candidates for the word at the cursor.
_escherctl() {
    # Bash splits words at = and :, and after one of them passes an empty word as $2.
    local word=${COMP_WORDS[COMP_CWORD]} answer
    [[ $word == [=:]* ]] || word=$2
    answer=$(
        ESCHER_COMPLETE=bash escherctl -- "${COMP_WORDS[@]:0:COMP_CWORD}" "$word" 2>/dev/null
    )
    if (( $? == 3 )); then
        # The cursor is in the command to run, which begins at this word: what completes that, completes it here.
        if declare -F _comp_command_offset >/dev/null; then
            _comp_command_offset "$answer"
        elif declare -F _command_offset >/dev/null; then
            _command_offset "$answer"
        else
            compopt -o default
        fi
        return
    fi
    [[ -z $answer ]] || mapfile -t COMPREPLY <<< "$answer"
    if [[ ${#COMPREPLY[@]} == 1 && ${COMPREPLY[0]} == *[=/.] ]]; then
        compopt -o nospace
    fi
}
complete -o nosort -F _escherctl escherctl
