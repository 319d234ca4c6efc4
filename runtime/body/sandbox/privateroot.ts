/**
 * Invariant: a confined child sees only the part of the file system that is listed here, read-only but for /tmp and the data
 * folder of its slot (HANDLES 13.4, 13.5; test/runtime/body/sandbox/confinement.test.ts).
 *
 * One list in two notations: the fstab of mount(8), and arguments of bwrap(1). There is no /dev, no /sys, no /home, no
 * /var, and no /run but our own.
 */
import { existsSync, realpathSync, statSync } from 'node:fs'
import { createRequire } from 'node:module'
import { basename, dirname, join, relative } from 'node:path'

/** Paths in the child's root. */
export const PATH_INSIDE = {
  program: '/run/medulla/program',
  runtime: '/run/medulla/runtime',
  node: '/run/medulla/node',
  data: '/run/medulla/data',
}

/** Commands, libraries and time zones. The dynamic loader is in /lib64 on x86-64, and in /lib on arm64. */
const SYSTEM = ['/usr', '/lib', '/lib64', '/bin']

export interface Bind {
  readonly source: string
  readonly target: string
  readonly writable?: boolean
}

export interface RootPaths {
  readonly binds: readonly Bind[]
  /** Path in the child's root, like `loader`. */
  readonly node: string
  readonly loader: string
}

export function rootPathsOf(about: {
  /** Null for the endpoint. */
  programDir: string | null
  loader: string
  network: boolean
  leafProcs: string | null
  /** Null for the endpoint. */
  dataFolder: string | null
}): RootPaths {
  const root = installRoot(about.loader)
  const binds: Bind[] = SYSTEM.filter((path) => existsSync(path)).map((path) => ({ source: path, target: path }))
  if (about.programDir !== null) binds.push({ source: about.programDir, target: PATH_INSIDE.program })
  binds.push({ source: root, target: PATH_INSIDE.runtime })
  if (about.dataFolder !== null) binds.push({ source: about.dataFolder, target: PATH_INSIDE.data, writable: true })
  let node = process.execPath
  if (!isBelow('/usr', node)) {
    binds.push({ source: dirname(node), target: PATH_INSIDE.node })
    node = join(PATH_INSIDE.node, basename(node))
  }
  const modules = modulesOf(about.loader)
  // node_modules may be a symbolic link: its target has the same path in the new root.
  if (modules !== null && !isBelow(root, modules)) binds.push({ source: modules, target: modules })
  const leaf = about.leafProcs === null ? null : dirname(about.leafProcs)
  // libuv reads memory.max there, and V8 sizes its heap by it. A flag for the heap size would disable Node's code cache: 17 ms a start.
  if (leaf !== null && existsSync(join(leaf, 'memory.max'))) binds.push({ source: leaf, target: leaf })
  if (about.network) binds.push(...namesOfHosts())
  return { binds, node, loader: join(PATH_INSIDE.runtime, relative(root, about.loader)) }
}

/** The first file or folder of the installation that other users cannot read, though a child needs it; null: there is none. */
export function closedToOthers(loader: string): string | null {
  const root = installRoot(loader)
  const modules = modulesOf(loader)
  const node = process.execPath
  return (
    firstClosed(root, loader) ??
    (modules === null ? null : firstClosed(modules, join(modules, 'koffi/package.json'))) ??
    (isBelow('/usr', node) ? null : firstClosed(dirname(node), node))
  )
}

function firstClosed(top: string, file: string): string | null {
  for (let path = file; path.length >= top.length; path = dirname(path)) {
    const stat = statSync(path, { throwIfNoEntry: false })
    const wanted = stat?.isDirectory() ? 0o005 : 0o004
    if (stat !== undefined && (stat.mode & wanted) !== wanted) return path
  }
  return null
}

/** The folder that holds the runtime and its packages: the one above the outermost node_modules, or that of package.json. */
function installRoot(loader: string): string {
  const at = loader.indexOf('/node_modules/')
  if (at >= 0) return loader.slice(0, at)
  for (let folder = dirname(loader); folder !== dirname(folder); folder = dirname(folder)) {
    if (existsSync(join(folder, 'package.json'))) return folder
  }
  return dirname(loader)
}

/** The real path of the node_modules that holds koffi. */
function modulesOf(loader: string): string | null {
  try {
    const file = realpathSync(createRequire(loader).resolve('koffi'))
    return file.slice(0, file.indexOf('/node_modules/') + '/node_modules'.length)
  } catch {
    return null
  }
}

/** The files of getaddrinfo(3). resolv.conf is often a link out of /etc and is replaced at run time, so its folder is bound. */
function namesOfHosts(): Bind[] {
  const binds = [{ source: '/etc', target: '/etc' }]
  const file = '/etc/resolv.conf'
  const folder = existsSync(file) ? dirname(realpathSync(file)) : '/etc'
  return isBelow('/etc', join(folder, 'x')) ? binds : [...binds, { source: folder, target: folder }]
}

const isBelow = (folder: string, path: string): boolean => path.startsWith(`${folder}/`)

/** The table for `mount --all --fstab`: `root` is an empty folder, over which the new root is mounted. */
export function fstab(root: string, { binds }: RootPaths, about: { uid: number; tmpMb: number }): string {
  const lines = [
    ['medulla', root, 'tmpfs', 'mode=755,size=64k,nosuid,nodev'],
    // Before the bind mounts: a source may be below /tmp.
    ['medulla', `${root}/tmp`, 'tmpfs', `${tmp(about)},nosuid,nodev,X-mount.mkdir`],
    ...binds.map(({ source, target, writable }) => [
      source,
      root + target,
      'none',
      `bind,${writable ? 'rw,noexec' : 'ro'},nosuid,nodev,X-mount.mkdir`,
    ]),
    // hidepid=2 hides the processes of other users (kernel document filesystems/proc.rst).
    ['medulla', `${root}/proc`, 'proc', 'hidepid=2,nosuid,nodev,noexec,X-mount.mkdir'],
  ]
  return lines.map((fields) => `${fields.map(escaped).join(' ')} 0 0\n`).join('')
}

const tmp = ({ uid, tmpMb }: { uid: number; tmpMb: number }): string =>
  `mode=700,uid=${uid},gid=${uid},size=${tmpMb}m,nr_inodes=${tmpMb * 256}`

/** White space and backslashes as octal escapes (fstab(5)). */
const escaped = (field: string): string =>
  field.replace(/[\s\\]/g, (char) => `\\${char.charCodeAt(0).toString(8).padStart(3, '0')}`)

/** The same root for bwrap, which runs as root. Its /tmp is writable for everybody: the child is the only user there. */
export function bwrapArguments({ binds }: RootPaths, about: { tmpMb: number; network: boolean }): string[] {
  return [
    ...['--unshare-pid', '--unshare-ipc', '--unshare-uts', '--die-with-parent'],
    ...(about.network ? [] : ['--unshare-net']),
    ...['--perms', '1777', '--size', String(about.tmpMb * 1024 * 1024), '--tmpfs', '/tmp'],
    // Folders that bwrap makes itself are closed to other users.
    ...foldersAbove(binds).flatMap((folder) => ['--perms', '0755', '--dir', folder]),
    ...binds.flatMap(({ source, target, writable }) => [writable ? '--bind' : '--ro-bind', source, target]),
    ...['--proc', '/proc', '--chdir', '/tmp'],
    ...['SETUID', 'SETGID', 'SETPCAP'].flatMap((name) => ['--cap-add', `CAP_${name}`]),
  ]
}

/** Shortest first. */
function foldersAbove(binds: readonly Bind[]): string[] {
  const folders = new Set<string>()
  for (const { target } of binds) {
    for (let folder = dirname(target); folder !== '/'; folder = dirname(folder)) folders.add(folder)
  }
  return [...folders].sort()
}
