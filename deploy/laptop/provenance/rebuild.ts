/** Builds a program again from the source that its bundle names, in a new folder. */
import { cp, mkdir, mkdtemp, realpath, rm, stat } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { basename, dirname, join, relative, sep } from 'node:path'
import { Refusal } from '../../shared/errors.ts'
import { type BuildOptions, type Built, buildProgram } from '../build.ts'
import { BUILD_INFO, type ReadBuildInfo } from '../buildinfo.ts'
import { findSource, isFile } from '../source.ts'
import { installPackages } from './install.ts'
import { git } from './vcs.ts'

export interface RebuildOptions extends Pick<BuildOptions, 'sdk' | 'drivers'> {
  /** a folder, or what `git clone` takes */
  source: string
  /** as in the bundle's manifest: an option of a push may have said so, which no source holds */
  takesStateOf: string | undefined
  progress(text: string): void
}

/** Downloads with `git clone` and `npm ci` what the bundle names. Throws `build-failed`, or `usage` for a source that cannot do. */
export async function rebuild(info: ReadBuildInfo, options: RebuildOptions): Promise<Built> {
  if (info.format !== BUILD_INFO) {
    throw new Refusal(
      'unknown-format',
      `the bundle was built by medulla ${info.tools.medulla} with ${info.format}, which does not say enough to build it again`,
      'build the program again, with this medulla',
    )
  }
  const temp = await mkdtemp(join(tmpdir(), 'medulla-rebuild-'))
  try {
    const checkout = join(temp, 'source')
    const folder = await fetchSource(info, options, checkout)
    if (info.modules.length > 0) await installModules(folder, checkout, options)
    const path = mainOf(folder, info)
    const own = findSource(path, { program: info.program })
    const stateOf = own.takesStateOf === null ? options.takesStateOf : undefined
    options.progress('building')
    return await buildProgram(path, {
      sdk: options.sdk,
      drivers: options.drivers,
      // without a name in package.json, the name was that of a folder, which may be another here
      ...(own.path === info.program ? { program: info.program } : {}),
      ...(stateOf === undefined ? {} : { takesStateOf: stateOf }),
    })
  } finally {
    await rm(temp, { recursive: true, force: true })
  }
}

/** The folder of the program in a new checkout, or in a copy of a folder that is under no version control. */
async function fetchSource(info: ReadBuildInfo, options: RebuildOptions, checkout: string): Promise<string> {
  const { source, progress } = options
  const local = (await stat(source).catch(() => null))?.isDirectory() === true
  if (info.vcs === null) {
    if (!local) {
      throw new Refusal(
        'usage',
        `the bundle names no commit, and ${source} is no folder`,
        '--source DIR: the folder of the program',
      )
    }
    progress('copying the source')
    const root = await realpath(source)
    const left = new Set(['node_modules', '.git'])
    await mkdir(checkout)
    await cp(root, checkout, {
      recursive: true,
      verbatimSymlinks: true,
      filter: (path) => path === root || !left.has(basename(path)),
    })
    return checkout
  }
  const { revision, folder } = info.vcs
  progress(`cloning ${source}`)
  const cloned = local ? (await gitOrFail(source, 'rev-parse', '--show-toplevel')).trimEnd() : source
  await gitOrFail(dirname(checkout), 'clone', '--quiet', '--no-checkout', '--', cloned, checkout)
  await gitOrFail(checkout, '-c', 'advice.detachedHead=false', 'checkout', '--quiet', '--detach', revision)
  const found = await realpath(join(checkout, folder)).catch(() => null)
  const base = await realpath(checkout)
  if (found === null || !(found === base || found.startsWith(base + sep))) {
    throw new Refusal('build-failed', `commit ${revision} has no folder ${folder}`)
  }
  return found
}

async function gitOrFail(folder: string, ...args: string[]): Promise<string> {
  return git(folder, ...args).catch((cause) => {
    const said = lastLine(cause)
    throw new Refusal(
      'build-failed',
      `git ${args.find((word) => /^[a-z]+(?:-[a-z]+)*$/.test(word)) ?? ''}: ${said}`,
      undefined,
      {
        cause,
      },
    )
  })
}

/** What a failed command said at last on stderr. */
function lastLine(cause: unknown): string {
  const { stderr = '', message = String(cause) } = cause as { stderr?: string; message?: string }
  return stderr.trim().split('\n').at(-1) || message
}

/** The packages of the lock file nearest to the program, without scripts of theirs. */
async function installModules(folder: string, top: string, { progress }: RebuildOptions): Promise<void> {
  let at = folder
  while (!isFile(join(at, 'package-lock.json')) && relative(await realpath(top), at) !== '') at = dirname(at)
  if (!isFile(join(at, 'package-lock.json'))) {
    throw new Refusal(
      'build-failed',
      'the source has no package-lock.json, so nobody can say which packages it was built with',
    )
  }
  progress('npm ci')
  await installPackages(at)
}

function mainOf(folder: string, { main }: ReadBuildInfo): string {
  if (main.split('/').includes('..')) throw new Refusal('bad-bundle', `buildinfo.json: ${main} leads out of the source`)
  try {
    if (findSource(folder, { program: 'any' }).entry === main) return folder
  } catch {
    // the folder has no main file of its own: the bundle was built from a file
  }
  return join(folder, main)
}
