/** Every file below a folder with its mode and hash, to see that nothing was changed. */
import { createHash } from 'node:crypto'
import { lstatSync, readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'

/** One line for each path, in order. */
export function listing(folder: string, below = ''): string[] {
  return readdirSync(join(folder, below))
    .sort()
    .flatMap((name) => {
      const path = below === '' ? name : `${below}/${name}`
      const stat = lstatSync(join(folder, path))
      const mode = (stat.mode & 0o7777).toString(8)
      if (stat.isDirectory()) return [`${path}/ ${mode}`, ...listing(folder, path)]
      return [
        `${path} ${mode} ${createHash('sha256')
          .update(readFileSync(join(folder, path)))
          .digest('hex')}`,
      ]
    })
}
