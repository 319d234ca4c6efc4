/** Tells a running body that the lists of operators were changed beside it, so that nobody needs to send it a signal. */
import { watch } from 'node:fs'
import { join } from 'node:path'

const LISTS: ReadonlySet<string> = new Set(['allowed_signers', 'roles.json'])

/**
 * Calls `onChange` after each replacement of a list, until the returned function is called; `failed` when the kernel does
 * not tell (any more).
 */
export function watchOperators(home: string, onChange: () => void, failed: (error: Error) => void): () => void {
  try {
    const watcher = watch(join(home, 'operators'), { persistent: false }, (_, name) => {
      if (name === null || LISTS.has(name)) onChange()
    })
    watcher.on('error', failed)
    return () => watcher.close()
  } catch (error) {
    failed(error as Error)
    return () => {}
  }
}
