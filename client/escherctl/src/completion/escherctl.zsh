#compdef escherctl
# Completion for escherctl, which itself prints the candidates for the word at the cursor.
_escherctl() {
    local line answer
    local -a full partial
    answer=$(
        ESCHER_COMPLETE=zsh escherctl -- "${(@)words[1,CURRENT-1]}" "$PREFIX" 2>/dev/null
    )
    if (( $? == 3 )); then
        # The cursor is in the command to run, which begins behind this many words: what completes that, completes it here.
        shift $answer words
        (( CURRENT -= answer ))
        _normal
        return
    fi
    for line in "${(@f)answer}"; do
        case ${line%%:*} in
            '') ;;
            *[=/.]) partial+=("$line") ;;
            *) full+=("$line") ;;
        esac
    done
    (( $#partial )) && _describe -V value partial -S ''
    (( $#full )) && _describe -V value full
}

# Autoloaded from fpath, the file is the function and has to run it; sourced, it only registers it.
if [[ ${funcstack[1]} == _escherctl ]]; then
    _escherctl "$@"
else
    compdef _escherctl escherctl
fi
