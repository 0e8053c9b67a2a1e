#compdef escherctl
# Completion for escherctl, which is asked itself what could stand at the cursor.
_escherctl() {
    local line
    local -a whole begun
    for line in "${(@f)$(
        ESCHER_COMPLETE=zsh escherctl -- "${(@)words[1,CURRENT-1]}" "$PREFIX" 2>/dev/null
    )}"; do
        case ${line%%:*} in
            '') ;;
            *[=/.]) begun+=("$line") ;;
            *) whole+=("$line") ;;
        esac
    done
    (( $#begun )) && _describe -V value begun -S ''
    (( $#whole )) && _describe -V value whole
}

# Loaded by name it is asked at once, sourced it waits to be.
if [[ ${funcstack[1]} == _escherctl ]]; then
    _escherctl "$@"
else
    compdef _escherctl escherctl
fi
