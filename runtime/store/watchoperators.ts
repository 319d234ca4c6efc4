/** Tells a running body that the files of the operators have changed, so that nobody needs to send SIGHUP. */
import { watch } from 'node:fs'
import { join } from 'node:path'

const LISTS: ReadonlySet<string> = new Set(['allowed_signers', 'roles.json'])

/**
 * Calls `onChange` after each change of a file, until the returned function is called; `failed` when the folder cannot be
 * watched (any more).
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
