/** Tells a running body that the files of the operators have changed, so that nobody needs to send SIGHUP. */
import { watch } from 'node:fs'
import { join } from 'node:path'
import { REQUEST_FILE } from './pairingfiles.ts'

const LISTS: ReadonlySet<string> = new Set(['allowed_signers', 'roles.json', 'list.json'])

interface Watcher {
  /** A list of the operators has changed. */
  lists(): void
  /** There may be a request for a pairing window. */
  request(): void
  /** The folder cannot be watched (any more). */
  failed(error: Error): void
}

/** Calls the watcher after each change of a file, until the returned function is called. */
export function watchOperators(home: string, { lists, request, failed }: Watcher): () => void {
  try {
    const watcher = watch(join(home, 'operators'), { persistent: false }, (_, name) => {
      if (name === null || LISTS.has(name)) lists()
      if (name === null || name === REQUEST_FILE) request()
    })
    watcher.on('error', failed)
    return () => watcher.close()
  } catch (error) {
    failed(error as Error)
    return () => {}
  }
}
