# Completion for escherctl, which itself prints the candidates for the word at the cursor.
complete --keep-order --exclusive --command escherctl --arguments "(
    ESCHER_COMPLETE=fish escherctl -- \
        (commandline --current-process --tokenize --cut-at-cursor) \
        (commandline --current-token --cut-at-cursor)
)"
