# Completion for escherctl, which itself prints the candidates for the word at the cursor.
function __escherctl_candidates
    set --local words (commandline --current-process --tokenize --cut-at-cursor)
    set --local word (commandline --current-token --cut-at-cursor)
    set --local answer (ESCHER_COMPLETE=fish escherctl -- $words "$word")
    if test $status -eq 3
        # The cursor is in the command to run, which begins behind this many words: what completes that, completes it here.
        set --local command (string escape -- $words[(math $answer + 1)..])
        complete --do-complete (string join -- ' ' $command "$word")
    else
        printf '%s\n' $answer
    end
end
complete --keep-order --exclusive --command escherctl --arguments '(__escherctl_candidates)'
