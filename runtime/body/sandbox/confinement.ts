/**
 * Invariant: a confined program starts as a user of its own, without a capability, in a root of its own that holds no
 * device and nothing it could write but its /tmp and its data folder (HANDLES 13).
 *
 * A chain of util-linux commands, each of which replaces itself by the next, so the pid stays. Nothing is put into the
 * text of the shell's script: what differs are its parameters.
 */
import { spawnSync } from 'node:child_process'
import { accessSync, chmodSync, constants, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { loadSystem } from '../../../drivers/owner/linux/system.ts'
import type { Grant } from '../../../drivers/program/handle.ts'
import { needsSystem } from '../../../drivers/program/inherit/index.ts'
import { runtimePath } from '../../places.ts'
import { encode } from '../../sdk/bpf.ts'
import { type Arch, filter, isArch } from '../../sdk/seccomp.ts'
import { FD, type Init } from '../../sdk/wire.ts'
import { DATA_GROUP } from './datafolder.ts'
import { keepToItself } from './descriptors.ts'
import { bwrapArguments, closedToOthers, fstab, PLACE, placesOf, type RootPaths } from './privateroot.ts'

/** `bwrap` adds a namespace of processes and, where no grant needs native code, Node's own permission model. */
export type ConfinedBy = 'namespaces' | 'bwrap'

/** The loader of this installation. */
export const LOADER = runtimePath('sdk/loader.js')

export interface ConfineOptions {
  readonly sandbox: ConfinedBy
  /** and gid: from Uids.take */
  readonly uid: number
  /** `cgroup.procs` of the instance's own group, or null */
  readonly leafProcs: string | null
  /** The instance's own folder, mode 0700 of this process; two files and an empty folder are written into it. */
  readonly folder: string
  /** Where the program was extracted; made readable for others. */
  readonly programDir: string
  /** default {@link LOADER} */
  readonly loader?: string
  readonly grants: readonly Grant[]
  readonly network: boolean
  /** of processes and threads, also where there is no pids controller (RLIMIT_NPROC) */
  readonly pids: number
  /** of private memory of each process, where there is no memory controller (RLIMIT_DATA); null for no limit */
  readonly dataMb: number | null
  readonly tmpMb: number
  /** Made by openDataFolder. */
  readonly dataFolder: string
}

export interface Confined {
  /** argv for spawn, the loader included. The pid it gets is that of Node (namespaces), or of bwrap's monitor. */
  readonly command: readonly string[]
  /** The program file where the child sees it: `init.file`. */
  readonly file: string
  /** `init.confine` */
  readonly confine: NonNullable<Init['confine']>
  /** Files to open read-only and to append to the child's descriptor table, after the last grant, in this order. */
  readonly extra: readonly string[]
}

export type CanConfine = { readonly ok: true } | { readonly ok: false; readonly why: string; readonly fix: string }

/** linux/capability.h */
const CAPABILITIES = {
  CHOWN: 0,
  KILL: 5,
  SETGID: 6,
  SETUID: 7,
  SETPCAP: 8,
  SYS_CHROOT: 18,
  SYS_ADMIN: 21,
  SYS_NICE: 23,
} as const

/** util-linux and coreutils; by their full path, as the child's PATH is not ours */
const TOOLS = ['sh', 'unshare', 'mount', 'chroot', 'setpriv'] as const
type Tool = (typeof TOOLS)[number] | 'bwrap'

/** HANDLES 13.1: what is needed, and tried. `fix` completes "…, or write unconfined". */
export function canConfine(sandbox: ConfinedBy, loader = LOADER): CanConfine {
  const no = (why: string, fix: string): CanConfine => ({ ok: false, why, fix })
  if (process.platform !== 'linux') return no(`this is ${process.platform}`, 'run the runtime on Linux')
  if (!isArch(process.arch)) return no(`there is no filter for ${process.arch}`, 'use a 64-bit system (arm64 or x64)')
  const lacking = lackingCapabilities()
  if (lacking.length > 0) return no(`this process has no CAP_${lacking.join(', CAP_')}`, 'start the runtime as root')
  const missing = [...TOOLS, ...(sandbox === 'bwrap' ? (['bwrap'] as const) : [])].filter((name) => find(name) === null)
  if (missing.length > 0) {
    const fix = missing.includes('bwrap') ? 'apt install bubblewrap' : 'apt install util-linux'
    return no(`there is no command ${missing.join(', ')}`, fix)
  }
  try {
    loadSystem()
  } catch (error) {
    return no(error instanceof Error ? error.message : String(error), 'npm install koffi@3.3.4')
  }
  const closed = closedToOthers(loader)
  if (closed !== null) return no(`other users cannot read ${closed}`, `chmod -R o+rX ${closed}`)
  // a container may have the capabilities and not the calls
  const tried = spawnSync(tool('unshare'), ['--mount', '--ipc', '--net', tool('sh'), '-c', ':'], { encoding: 'utf8' })
  if (tried.status !== 0) return no(tried.stderr.trim(), 'allow namespaces to the runtime')
  return { ok: true }
}

/** HANDLES 10.9. Node takes as many as it may. */
const MAX_DESCRIPTORS = 1024

/**
 * For sh, with $1 the leaf's cgroup.procs or '', $2 KiB of private memory or 'unlimited'. The group comes first: all that is
 * started afterwards is in it. A limit that cannot be set is one that the runtime has itself, and a lower one.
 */
export const LIMITED = `set -e
[ -z "$1" ] || echo $$ >"$1"
ulimit -c 0
ulimit -n ${MAX_DESCRIPTORS} || true
ulimit -d "$2" || true
`

/** The first two parameters of {@link LIMITED}. */
export const limitedBy = (leafProcs: string | null, dataMb: number | null): string[] => [
  leafProcs ?? '',
  dataMb === null ? 'unlimited' : String(dataMb * 1024),
]

/** Of `ulimit -f` in dash; bash and busybox take twice as much. */
export const FILE_BLOCK = 512
/** More than a state area. */
const PROGRAM_FILE_BYTES = 128 * 1024 * 1024

/**
 * $3 how many processes, $4 how many blocks a file may have, $5 mount(8), $6 fstab or '', then the command. dash knows the
 * limit of processes as -p, bash and busybox as -u.
 */
const SCRIPT = `${LIMITED}ulimit -f "$4"
ulimit -p "$3" 2>/dev/null || ulimit -u "$3"
[ -z "$6" ] || "$5" --all --fstab "$6"
shift 6
exec "$@"`

/** HANDLES 13.6: once, as Node opens nothing itself that it would pass on. */
let keptToItself = false

/** How to start one instance. Throws when its folder cannot be written. */
export function confine(options: ConfineOptions): Confined {
  const { sandbox, folder, grants, network } = options
  const places = placesOf({ ...options, loader: options.loader ?? LOADER })
  readable(options.programDir)
  const shared = { ...options, hostNetwork: network, hostName: true, fileBytes: PROGRAM_FILE_BYTES }
  const confined = { file: join(PLACE.program, 'program.mjs') }
  if (sandbox === 'namespaces') {
    const command = chain({ ...shared, places, node: [places.node, places.loader], filterFd: null })
    return { ...confined, command, confine: { network, filter: 'install' }, extra: [] }
  }
  const file = join(folder, 'filter')
  const arch = process.arch as Arch
  writeFileSync(file, encode(filter({ arch, grants, network })), { mode: 0o600 })
  const filterFd = FD.firstGrant + grants.filter(({ via }) => via === 'inherit').length
  const node = [places.node, ...permissions(grants), places.loader]
  const command = chain({ ...shared, places, node, filterFd })
  return { ...confined, command, confine: { network, filter: 'installed' }, extra: [file] }
}

/**
 * HANDOVER 8.13: how to start the endpoint, `main` with a user, mounts, queues and host name of its own, in the network of
 * the host. It puts on its filter itself. Throws when its folder cannot be written.
 */
export function confineEndpoint(
  options: Pick<ConfineOptions, 'sandbox' | 'uid' | 'folder' | 'pids' | 'tmpMb'> & { main: string; fileBytes: number },
): string[] {
  const about = {
    programDir: null,
    loader: options.main,
    network: false,
    leafProcs: null,
    dataMb: null,
    dataFolder: null,
  }
  const places = placesOf(about)
  const node = [places.node, places.loader]
  return chain({
    ...about,
    ...options,
    hostNetwork: true,
    hostName: false,
    places,
    node,
    filterFd: null,
  })
}

interface ChainOptions
  extends Pick<ConfineOptions, 'sandbox' | 'uid' | 'folder' | 'leafProcs' | 'dataMb' | 'pids' | 'tmpMb'> {
  readonly places: RootPaths
  readonly dataFolder: string | null
  readonly hostNetwork: boolean
  readonly hostName: boolean
  readonly fileBytes: number
  /** Node and what it runs, by their paths in the new root */
  readonly node: readonly string[]
  /** bwrap installs the filter that it reads there */
  readonly filterFd: number | null
}

/** The commands that replace each other. */
function chain(options: ChainOptions): string[] {
  const { sandbox, uid, folder, places, node, filterFd } = options
  if (!keptToItself) keepToItself()
  keptToItself = true
  const shell = (mounts: string, command: readonly string[]): string[] => [
    ...[tool('sh'), '-c', SCRIPT, 'medulla', ...limitedBy(options.leafProcs, options.dataMb)],
    ...[String(options.pids), String(options.fileBytes / FILE_BLOCK), tool('mount'), mounts],
    ...command,
  ]
  if (sandbox === 'bwrap') {
    const filtered = filterFd === null ? [] : ['--seccomp', String(filterFd)]
    const bwrap = [tool('bwrap'), ...bwrapArguments(places, { ...options, network: options.hostNetwork }), ...filtered]
    return shell('', [...bwrap, ...unprivileged(uid, false, options.dataFolder !== null), ...node])
  }
  const [mounts, root] = [join(folder, 'mounts'), join(folder, 'root')]
  mkdirSync(root, { recursive: true })
  writeFileSync(mounts, fstab(root, places, options), { mode: 0o600 })
  const inside = [tool('chroot'), root, ...unprivileged(uid, true, options.dataFolder !== null), ...node]
  const shared = [...(options.hostNetwork ? [] : ['--net']), ...(options.hostName ? [] : ['--uts'])]
  return [tool('unshare'), '--mount', '--ipc', ...shared, ...shell(mounts, inside)]
}

/**
 * HANDLES 13.2, 13.3. The signal at the body's end comes last: a change of user takes it away (prctl(2)). Under bwrap the
 * end of its first process ends everything, and the filter is on already, which forbids to change that signal.
 */
function unprivileged(uid: number, bound: boolean, data: boolean): string[] {
  return [
    ...[
      tool('setpriv'),
      `--reuid=${uid}`,
      `--regid=${uid}`,
      data ? `--groups=${DATA_GROUP}` : '--clear-groups',
      '--inh-caps=-all',
      '--ambient-caps=-all',
    ],
    ...['--bounding-set=-all', '--no-new-privs', ...(bound ? ['--pdeathsig=KILL'] : [])],
  ]
}

/** HANDLES 13.13: where no grant needs koffi, which Node's permission model would have to let in. */
function permissions(grants: readonly Grant[]): string[] {
  if (needsSystem(grants)) return []
  const [major = 0, minor = 0] = process.versions.node.split('.').map(Number)
  const final = major > 23 || (major === 23 && minor >= 5)
  return [
    ...(final ? ['--permission'] : ['--experimental-permission', '--disable-warning=ExperimentalWarning']),
    ...[
      `--allow-fs-read=${PLACE.program}/*`,
      `--allow-fs-read=${PLACE.runtime}/*`,
      '--allow-fs-read=/proc/self/status',
    ],
    ...['/tmp', PLACE.data].flatMap((path) => [`--allow-fs-read=${path}/*`, `--allow-fs-write=${path}/*`]),
  ]
}

/** For others: the folder above is closed to them, and what is bound is read-only. */
export function readable(programDir: string): void {
  chmodSync(programDir, 0o755)
  for (const entry of readdirSync(programDir, { withFileTypes: true })) {
    const path = join(programDir, entry.name)
    if (entry.isDirectory()) readable(path)
    else chmodSync(path, 0o444)
  }
}

const found = new Map<string, string | null>()

function find(name: Tool): string | null {
  const known = found.get(name)
  if (known !== undefined) return known
  const path = ['/usr/bin', '/bin', '/usr/sbin', '/sbin'].map((folder) => `${folder}/${name}`).find(isCommand) ?? null
  found.set(name, path)
  return path
}

function tool(name: Tool): string {
  return find(name) ?? name
}

function isCommand(path: string): boolean {
  try {
    accessSync(path, constants.X_OK)
    return true
  } catch {
    return false
  }
}

function lackingCapabilities(): string[] {
  const effective = /^CapEff:\s*(\w+)$/m.exec(readFileSync('/proc/self/status', 'utf8'))?.[1] ?? '0'
  const mask = BigInt(`0x${effective}`)
  return Object.entries(CAPABILITIES).flatMap(([name, bit]) => ((mask >> BigInt(bit)) & 1n ? [] : [name]))
}
