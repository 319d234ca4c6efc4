/**
 * Invariant: a confined program starts as a user of its own, without a capability, in a root of its own that holds no
 * device and nothing writable but /tmp and the data folder (HANDLES 13; test/runtime/body/sandbox/confinement.test.ts).
 *
 * There are two ways. `namespaces` needs util-linux alone, and is the default. `bwrap` is for Node 24 and newer, which open
 * three io_urings before they run a line of ours: under `namespaces` a program holds them, past its filter; under `bwrap` the
 * filter is on before Node starts, and there are none. A start takes as long (0.9 to
 * 1.0 times, Node 20, 24 and 26), and 4 MB of memory more (HANDLES 13.13, 13.14).
 *
 * Builds a chain of util-linux commands, each of which replaces itself by the next, so that the pid stays. The text of the
 * shell script is constant; everything variable is a parameter.
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
import { closeInheritedOnExec } from './descriptors.ts'
import { bwrapArguments, closedToOthers, fstab, PATH_INSIDE, type RootPaths, rootPathsOf } from './privateroot.ts'

/** Node's flags for every program: at SIGINT it prints the stack of JavaScript, also in an endless loop (HANDOVER 4.11). */
export const NODE_FLAGS = ['--trace-sigint'] as const

/** `bwrap` adds a PID namespace and, where no grant needs native code, Node's permission model. */
export type ConfinedBy = 'namespaces' | 'bwrap'

/** The loader of this installation. */
export const LOADER = runtimePath('sdk/loader.js')

export interface ConfineOptions {
  readonly sandbox: ConfinedBy
  /** Also the gid; from Uids.take. */
  readonly uid: number
  /** `cgroup.procs` of the instance's leaf, or null. */
  readonly leafProcs: string | null
  /** The instance's folder, mode 0700 of this process; two files and an empty folder are written into it. */
  readonly folder: string
  /** The folder with the extracted program; made readable for other users. */
  readonly programDir: string
  /** Default: {@link LOADER}. */
  readonly loader?: string
  readonly grants: readonly Grant[]
  readonly network: boolean
  /** Most processes and threads, also without a pids controller (RLIMIT_NPROC). */
  readonly pids: number
  /** Most private memory of each process, for hosts without a memory controller (RLIMIT_DATA); null: no limit. */
  readonly dataMb: number | null
  readonly tmpMb: number
  /** Made by openDataFolder. */
  readonly dataFolder: string
}

export interface Confined {
  /** argv for spawn, the loader included. The pid is that of Node (namespaces), or of bwrap's monitor. */
  readonly command: readonly string[]
  /** Path of the program file in the child's root: `init.file`. */
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

/** Of util-linux and coreutils; called by full path, because the child has another PATH. */
const TOOLS = ['sh', 'unshare', 'mount', 'chroot', 'setpriv'] as const
type Tool = (typeof TOOLS)[number] | 'bwrap'

/** Checks and tries what confinement needs (HANDLES 13.1). `fix` completes the hint `FIX, or write "unconfined": true …`. */
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
  // A container may have the capabilities and still refuse the system calls.
  const tried = spawnSync(tool('unshare'), ['--mount', '--ipc', '--net', tool('sh'), '-c', ':'], { encoding: 'utf8' })
  if (tried.status !== 0) return no(tried.stderr.trim(), 'allow namespaces to the runtime')
  return { ok: true }
}

/** RLIMIT_NOFILE of a program (HANDLES 10.9). Node raises its soft limit to the hard one, so both are set. */
const MAX_DESCRIPTORS = 1024
/** That of the endpoint: all connections that may wait (CHANNEL 5.2), and as many that come before those are closed. */
export const ENDPOINT_DESCRIPTORS = 4096

/**
 * A script for sh: $1 is the leaf's cgroup.procs or '', $2 KiB of private memory or 'unlimited', $3 the most descriptors. It joins the group first, so
 * that every later process is in it. A limit can only fail to be set where the runtime itself has a lower one. The shell adds
 * PWD to the environment, which a program does not get (HANDOVER 3.4).
 */
export const LIMIT_SCRIPT = `set -e
unset PWD
[ -z "$1" ] || echo $$ >"$1"
ulimit -c 0
ulimit -n "$3" || true
ulimit -d "$2" || true
`

/** The first three parameters of {@link LIMIT_SCRIPT}. */
export const limitParameters = (
  leafProcs: string | null,
  dataMb: number | null,
  descriptors: number = MAX_DESCRIPTORS,
): string[] => [leafProcs ?? '', dataMb === null ? 'unlimited' : String(dataMb * 1024), String(descriptors)]

/** Bytes in a unit of `ulimit -f` in dash; in bash and busybox a unit has 1,024. */
export const FILE_BLOCK = 512
/** Enough for a state area. */
const PROGRAM_FILE_BYTES = 128 * 1024 * 1024

/**
 * $4 is the most processes, $5 the most blocks of a file, $6 mount(8), $7 a fstab or '', then the command. The limit of
 * processes is -p in dash, and -u in bash and busybox. mount makes folders by the umask, and under that of the service (077)
 * the child could not enter them.
 */
const SCRIPT = `${LIMIT_SCRIPT}ulimit -f "$5"
ulimit -p "$4" 2>/dev/null || ulimit -u "$4"
[ -z "$7" ] || (umask 022 && "$6" --all --fstab "$7")
shift 7
exec "$@"`

/** closeInheritedOnExec is called once: Node passes on nothing that it opens later (HANDLES 13.6). */
let inheritedClosed = false

/** The command that starts one confined instance. Throws when its folder cannot be written. */
export function confine(options: ConfineOptions): Confined {
  const { sandbox, folder, grants, network } = options
  const places = rootPathsOf({ ...options, loader: options.loader ?? LOADER })
  readable(options.programDir)
  const shared = { ...options, hostNetwork: network, hostName: true, fileBytes: PROGRAM_FILE_BYTES }
  const confined = { file: join(PATH_INSIDE.program, 'program.mjs') }
  if (sandbox === 'namespaces') {
    const command = chain({ ...shared, places, node: [places.node, ...NODE_FLAGS, places.loader], filterFd: null })
    return { ...confined, command, confine: { network, filter: 'install' }, extra: [] }
  }
  const file = join(folder, 'filter')
  const arch = process.arch as Arch
  writeFileSync(file, encode(filter({ arch, grants, network })), { mode: 0o600 })
  const filterFd = FD.firstGrant + grants.filter(({ via }) => via === 'inherit').length
  const node = [places.node, ...NODE_FLAGS, ...permissions(grants), places.loader]
  const command = chain({ ...shared, places, node, filterFd })
  return { ...confined, command, confine: { network, filter: 'installed' }, extra: [file] }
}

/**
 * The command that starts the endpoint (`main`) with a user, mounts, queues and host name of its own, in the network of the
 * host (HANDOVER 8.13). The endpoint installs its filter itself. Throws when its folder cannot be written.
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
  const places = rootPathsOf(about)
  const node = [places.node, places.loader]
  return chain({
    ...about,
    ...options,
    hostNetwork: true,
    hostName: false,
    descriptors: ENDPOINT_DESCRIPTORS,
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
  readonly descriptors?: number
  /** Node and its arguments, with paths of the new root. */
  readonly node: readonly string[]
  /** The descriptor from which bwrap reads the filter that it installs; null: the child installs it. */
  readonly filterFd: number | null
}

/** The argv of the chain of commands. */
function chain(options: ChainOptions): string[] {
  const { sandbox, uid, folder, places, node, filterFd } = options
  if (!inheritedClosed) closeInheritedOnExec()
  inheritedClosed = true
  const shell = (mounts: string, command: readonly string[]): string[] => [
    ...[
      tool('sh'),
      '-c',
      SCRIPT,
      'medulla',
      ...limitParameters(options.leafProcs, options.dataMb, options.descriptors),
    ],
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
 * A user of its own without capabilities (HANDLES 13.2, 13.3). The parent-death signal is set last, because a change of user
 * clears it (prctl(2)). Under bwrap it is not needed: everything ends with bwrap's first process, and the filter, which is
 * installed by then, refuses that call.
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

/** Node's permission model (HANDLES 13.13), where no grant needs koffi, which is native code. */
function permissions(grants: readonly Grant[]): string[] {
  if (needsSystem(grants)) return []
  // Node 20 calls the flag experimental; where there is --allow-net (Node 26), the control socket needs it, and the filter
  // still allows no network.
  const has = (flag: string): boolean => process.allowedNodeEnvironmentFlags.has(flag)
  return [
    ...(has('--permission')
      ? ['--permission']
      : ['--experimental-permission', '--disable-warning=ExperimentalWarning']),
    ...(has('--allow-net') ? ['--allow-net'] : []),
    ...[
      `--allow-fs-read=${PATH_INSIDE.program}/*`,
      `--allow-fs-read=${PATH_INSIDE.runtime}/*`,
      '--allow-fs-read=/proc/self/status',
    ],
    ...['/tmp', PATH_INSIDE.data].flatMap((path) => [`--allow-fs-read=${path}/*`, `--allow-fs-write=${path}/*`]),
  ]
}

/** Makes the program readable for other users. The folder above stays closed to them, and the bind mount is read-only. */
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
