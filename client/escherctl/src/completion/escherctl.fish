# Completion for escherctl, which is asked itself what could stand at the cursor.
complete --keep-order --exclusive --command escherctl --arguments "(
    ESCHER_COMPLETE=fish escherctl -- \
        (commandline --current-process --tokenize --cut-at-cursor) \
        (commandline --current-token --cut-at-cursor)
)"
