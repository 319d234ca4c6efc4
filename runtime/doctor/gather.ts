/** Reads the facts of this machine, and changes nothing. A file that cannot be read does not end the doctor. */
import { spawnSync } from 'node:child_process'
import { accessSync, constants, existsSync, readFileSync, statSync } from 'node:fs'
import { hostname, release, userInfo } from 'node:os'
import { dirname, join, relative, resolve, sep } from 'node:path'
import { fileURLToPath } from 'node:url'
import { canConfine } from '../body/sandbox/confinement.ts'
import { SERVICE } from '../install/paths.ts'
import { placesIn } from '../install/units.ts'
import { runtimePath } from '../places.ts'
import { isClockSynchronised } from '../plumbing/clock.ts'
import { holderOf } from '../store/lock.ts'
import { readShownCode } from '../store/pairingfiles.ts'
import { listFolder, mayOpen, readDevices } from './devices.ts'
import { type Facts, type Groups, MODULES, type NativeModule, TOOLS, type Tool } from './facts.ts'

const HERE = fileURLToPath(import.meta.url)
const LOADER = runtimePath('sdk/loader.js')
const COMMAND_MS = 10_000

export interface DoctorOptions {
  home: string
  /** Absent: board.json in the home. */
  board?: string
}

export async function gather(options: DoctorOptions): Promise<Facts> {
  const home = resolve(options.home)
  const groups = groupNames(readOr('/etc/group'))
  return {
    host: hostname(),
    platform: process.platform,
    arch: process.arch,
    kernel: release(),
    model: readOr('/proc/device-tree/model').replaceAll('\0', '').trim() || null,
    user: user(groups),
    node: { version: process.versions.node, path: process.execPath, closed: closedPath() },
    ...readDevices(groups),
    modules: tryModules(),
    noTools: (Object.keys(TOOLS) as Tool[]).filter((name) => !isTool(name)),
    bwrap: isTool('bwrap'),
    confine: canConfine('namespaces'),
    groups: readGroups(),
    cmdline: readOr('/proc/cmdline').trim(),
    firmware: ['/boot/firmware', '/boot'].find((folder) => existsSync(`${folder}/config.txt`)) ?? '/boot/firmware',
    throttled: throttled(),
    clockSet: isClockSynchronised(),
    realtime: {
      works: spawnSync('chrt', ['-f', '1', 'true'], { timeout: COMMAND_MS }).status === 0,
      runtimeUs: numberIn(readOr('/proc/sys/kernel/sched_rt_runtime_us')),
      preemptRt: readOr('/sys/kernel/realtime').trim() === '1',
    },
    memory: memoryOf(readOr('/proc/meminfo')),
    home: {
      dir: home,
      there: existsSync(join(home, 'robot.json')),
      closed: existsSync(home) && !mayEnter(home),
      running: await holderOf(join(home, 'lock')).catch(() => null),
      pairing: readShownCode(home)?.until ?? null,
    },
    service: hasSystemd() ? readService() : null,
    board: readBoard(resolve(options.board ?? join(home, 'board.json'))),
  }
}

function readBoard(file: string): Facts['board'] {
  try {
    return { file, text: readFileSync(file, 'utf8'), error: '' }
  } catch (error) {
    return { file, text: null, error: (error as NodeJS.ErrnoException).code ?? String(error) }
  }
}

const hasSystemd = (): boolean => existsSync('/run/systemd/system')

function readService(): Facts['service'] {
  const places = placesIn(readOr(SERVICE))
  if (places === null) return { installed: existsSync(SERVICE), missing: null }
  return { installed: true, missing: [places.node, places.main].find((path) => !existsSync(path)) ?? null }
}

function user(names: ReadonlyMap<number, string>): Facts['user'] {
  const uid = process.getuid?.() ?? -1
  let name = String(uid)
  try {
    name = userInfo().username
  } catch {
    // this uid has no name
  }
  return { uid, name, groups: (process.getgroups?.() ?? []).map((gid) => names.get(gid) ?? String(gid)) }
}

/** `text` is /etc/group, group(5). Group names by gid. */
export function groupNames(text: string): Map<number, string> {
  const lines = text.split('\n').map((line) => line.split(':'))
  return new Map(lines.flatMap(([name, , gid]) => (name && gid ? [[Number(gid), name] as const] : [])))
}

/** `text` is /proc/meminfo, proc_meminfo(5). */
export function memoryOf(text: string): Facts['memory'] {
  const mb = (key: string) => Math.floor(Number(new RegExp(`^${key}:\\s*(\\d+) kB`, 'm').exec(text)?.[1] ?? 0) / 1024)
  return { totalMb: mb('MemTotal'), availableMb: mb('MemAvailable') }
}

/**
 * The first path of Node or of this installation that a program's user may not read; null if there is none. The folders are
 * mounted into the program's root, so the modes of their parent folders do not matter (HANDLES 13.4).
 */
function closedPath(): string | null {
  let root = dirname(HERE)
  while (root !== dirname(root) && !existsSync(join(root, 'package.json'))) root = dirname(root)
  const paths = [root]
  for (const part of relative(root, LOADER).split(sep)) paths.push(join(paths.at(-1) ?? root, part))
  const node = process.execPath.startsWith('/usr/') ? [] : [dirname(process.execPath), process.execPath]
  return [...node, ...paths].find((path) => !othersMayRead(path)) ?? null
}

function othersMayRead(path: string): boolean {
  const stat = statSync(path, { throwIfNoEntry: false })
  if (stat === undefined) return true
  const needed = stat.isDirectory() ? 0o5 : 0o4
  return (stat.mode & needed) === needed
}

/** Loads the modules in a child process, because a native module built for another Node may crash the process. */
function tryModules(): Facts['modules'] {
  const script = `
    const { dirname, join } = require('node:path')
    const require_ = require('node:module').createRequire(${JSON.stringify(HERE)})
    const load = (name) => {
      if (name === 'pigpio') require_(join(dirname(require_.resolve(name)), 'build/Release/pigpio.node'))
      else if (name === 'epoll') require('node:module').createRequire(require_.resolve('onoff'))(name)
      else require_(name)
    }
    for (const name of ${JSON.stringify(MODULES)}) {
      let said = null
      try { load(name) } catch (error) { said = String(error.message).split('\\n')[0] }
      process.stdout.write(JSON.stringify([name, said]) + '\\n')
    }`
  const { stdout } = spawnSync(process.execPath, ['-e', script], {
    encoding: 'utf8',
    timeout: COMMAND_MS,
    stdio: ['ignore', 'pipe', 'ignore'],
  })
  const said = new Map(
    stdout.split('\n').flatMap((line) => (line === '' ? [] : [JSON.parse(line) as [string, string]])),
  )
  const entry = (name: NativeModule) => [
    name,
    said.has(name) ? (said.get(name) ?? null) : 'loading it ends the process',
  ]
  return Object.fromEntries(MODULES.map(entry))
}

function isTool(name: string): boolean {
  const folders = [...(process.env.PATH ?? '').split(':'), '/usr/bin', '/bin', '/usr/sbin', '/sbin']
  return folders.some((folder) => {
    try {
      accessSync(join(folder, name), constants.X_OK)
      return true
    } catch {
      return false
    }
  })
}

function readGroups(): Groups {
  const mountinfo = readOr('/proc/self/mountinfo')
  const place = placeOfGroup(mountinfo, readOr('/proc/self/cgroup'))
  if (place === null) {
    return { mount: null, controllers: [], own: null, ownControllers: [], writable: false, kill: false }
  }
  const { mount, own } = place
  const controllers = (folder: string) => readOr(join(folder, 'cgroup.controllers')).trim().split(/\s+/).filter(Boolean)
  return {
    mount,
    controllers: controllers(mount),
    own,
    ownControllers: controllers(own),
    writable: mayOpen(join(own, 'cgroup.subtree_control')),
    kill: hasKill(mount, own),
  }
}

/**
 * Looks for cgroup.kill in the groups below the root: the root group never has that file. Without any other group the
 * answer is yes, as the kernel's version is judged elsewhere.
 */
function hasKill(mount: string, own: string): boolean {
  const groups = [own, ...listFolder(mount).map((name) => join(mount, name))].filter(
    (group) => group !== mount && existsSync(join(group, 'cgroup.events')),
  )
  return groups.every((group) => existsSync(join(group, 'cgroup.kill')))
}

/** The mount point of cgroup v2, and the folder of this process's group. `self` is /proc/self/cgroup. */
export function placeOfGroup(mountinfo: string, self: string): { mount: string; own: string } | null {
  const mounted = mountinfo.split('\n').find((line) => line.includes(' - cgroup2 '))
  const [, , , root, mount] = mounted?.split(' ') ?? []
  const path = /^0::(.*)$/m.exec(self)?.[1]
  if (root === undefined || mount === undefined || path === undefined) return null
  return { mount, own: join(mount, root === '/' ? path : path.slice(root.length)) }
}

/** get_throttled from the firmware driver's file in sysfs, or from vcgencmd. */
function throttled(): number | null {
  const platform = '/sys/devices/platform'
  for (const soc of listFolder(platform).filter((name) => name.startsWith('soc'))) {
    for (const name of listFolder(join(platform, soc)).filter((file) => file.endsWith('firmware'))) {
      const text = readOr(join(platform, soc, name, 'get_throttled')).trim()
      if (text !== '') return Number.parseInt(text, 16)
    }
  }
  const { stdout } = spawnSync('vcgencmd', ['get_throttled'], { encoding: 'utf8', timeout: COMMAND_MS })
  const hex = /^throttled=0x([0-9a-f]+)/m.exec(stdout ?? '')?.[1]
  return hex === undefined ? null : Number.parseInt(hex, 16)
}

function mayEnter(folder: string): boolean {
  try {
    accessSync(folder, constants.R_OK | constants.X_OK)
    return true
  } catch {
    return false
  }
}

function numberIn(text: string): number | null {
  return text.trim() === '' ? null : Number(text)
}

function readOr(path: string): string {
  try {
    return readFileSync(path, 'utf8')
  } catch {
    return ''
  }
}
