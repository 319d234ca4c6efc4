/**
 * The commit that a program was built from. Only objects of the commit are read: no filter, hook or index of the repository
 * has a say in the result.
 */
import { execFile } from 'node:child_process'
import { createHash } from 'node:crypto'
import { realpathSync } from 'node:fs'
import { readFile } from 'node:fs/promises'
import { relative, resolve } from 'node:path'
import { promisify } from 'node:util'
import { slashes } from '../bundler/logical.ts'

export interface Revision {
  system: 'git'
  /** the commit, in hex */
  revision: string
  /** of the commit */
  time: string
  /** the program's folder in the repository; `.` for the whole repository */
  folder: string
  /** whether one of the given files differs from the commit, or is not in it */
  modified: boolean
}

/** A longer list of paths would not fit in a command line everywhere: then the whole tree of the commit is listed. */
const MAX_PATHS = 500
const MAX_LISTING = 64 * 1024 * 1024

/** Variables that name a repository or change its settings, as `git rev-parse --local-env-vars` lists them. */
const OF_REPOSITORY =
  /^GIT_(?:ALTERNATE_OBJECT_DIRECTORIES|CONFIG(?:_.*)?|OBJECT_DIRECTORY|DIR|WORK_TREE|IMPLICIT_WORK_TREE|GRAFT_FILE|INDEX_FILE|NO_REPLACE_OBJECTS|REPLACE_REF_BASE|PREFIX|SHALLOW_FILE|COMMON_DIR)$/

const run = promisify(execFile)

/** Runs git without the settings of a surrounding git command, e.g. a hook. Rejects if git fails or is not there. */
export async function git(folder: string, ...args: string[]): Promise<string> {
  const env = Object.fromEntries(Object.entries(process.env).filter(([name]) => !OF_REPOSITORY.test(name)))
  // in a partial clone, git would fetch what is missing, by a command that the repository names
  const options = { cwd: folder, env: { ...env, LC_ALL: 'C', GIT_NO_LAZY_FETCH: '1' }, maxBuffer: MAX_LISTING }
  // the repository of another user is read, too: nothing of it is executed by the commands used here
  const safe = ['-c', 'safe.directory=*', '-c', 'core.fsmonitor=false', '--no-optional-locks', '--literal-pathspecs']
  return (await run('git', [...safe, ...args], options)).stdout
}

/** Null if no commit holds a file of these, or git is not installed. `files` are absolute paths; those outside are ignored. */
export async function revisionOf(root: string, files: readonly string[]): Promise<Revision | null> {
  let head: string[]
  try {
    head = (await git(root, 'rev-parse', '--show-toplevel', 'HEAD', 'HEAD^{tree}')).trimEnd().split('\n')
  } catch {
    return null
  }
  const [top = '', revision = ''] = head
  const base = realpathSync(top)
  const named = new Map<string, string>()
  for (const file of files) {
    const path = slashes(relative(base, resolve(file)))
    if (!path.startsWith('../')) named.set(path, file)
  }
  const paths = named.size > MAX_PATHS ? [] : [...named.keys()]
  const [commit, listing] = await Promise.all([
    git(root, 'cat-file', 'commit', revision),
    paths.length === 0 && named.size === 0
      ? ''
      : git(base, 'ls-tree', '-r', '-z', '--full-tree', revision, ...(paths.length > 0 ? ['--', ...paths] : [])),
  ])
  const committed = new Map<string, string>()
  for (const line of listing.split('\0')) {
    const match = /^\d+ blob ([0-9a-f]+)\t([\s\S]+)$/.exec(line)
    const [, id = '', path = ''] = match ?? []
    if (named.has(path)) committed.set(path, id)
  }
  // of a program that the repository does not hold, its commit says nothing
  if (committed.size === 0) return null
  const same = await Promise.all([...named].map(([path, file]) => isBlob(file, committed.get(path))))
  return {
    system: 'git',
    revision,
    time: new Date(Number(/^committer .* (\d+) [+-]\d{4}$/m.exec(commit)?.[1] ?? 0) * 1000).toISOString(),
    folder: slashes(relative(base, root)) || '.',
    modified: same.includes(false),
  }
}

async function isBlob(file: string, id: string | undefined): Promise<boolean> {
  if (id === undefined) return false
  const bytes = await readFile(file)
  // a repository with SHA-256 has longer ids
  const hash = createHash(id.length === 64 ? 'sha256' : 'sha1').update(`blob ${bytes.length}\0`)
  return hash.update(bytes).digest('hex') === id
}
