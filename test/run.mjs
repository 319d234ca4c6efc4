/**
 * What the npm scripts run, so that none of them needs a shell: `node test/run.mjs TASK [args]`. Node and its own modules
 * only, since it must work before anything is installed. Everything but a task's own output goes to stderr.
 */
import { spawn, spawnSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import { existsSync, readdirSync, readFileSync, renameSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { basename, delimiter, dirname, join, relative } from 'node:path'
import { fileURLToPath } from 'node:url'
import { ALONE, BATTERY } from './battery.mjs'

const ROOT = fileURLToPath(new URL('..', import.meta.url))
const NODE_MODULES = join(ROOT, 'node_modules')
const DIST = join(ROOT, 'dist')
const SOURCES = ['drivers', 'deploy', 'runtime', 'robots', 'test/bench', 'test/pictures']

const TOOLS = {
  tsc: 'typescript/bin/tsc',
  biome: '@biomejs/biome/bin/biome',
  knip: 'knip/bin/knip.js',
  vitest: 'vitest/vitest.mjs',
}

const RIG = join(ROOT, 'test/kernel/rig.mjs')
/** Tests that take long carry `{ tags: ['slow'] }`; `check` leaves them to `test`. */
const FAST = ['--tags-filter', '!slow']

const WITHOUT_BATTERY = [...BATTERY, ...ALONE].flatMap((file) => ['--exclude', file])

const TASKS = {
  async install() {
    await ensureInstalled()
  },
  async build() {
    await ensureInstalled()
    await build()
  },
  /** For real hardware, and for the rig: npm may leave out what packages compile when they are installed. */
  async natives() {
    await ensureInstalled()
    await ensureNatives()
  },
  async demo(args) {
    await ready()
    await node([join(DIST, 'deploy/laptop/cli/demo.js'), ...args])
  },
  /** `--kernel`: in the rig, which has the devices. */
  async bench(args) {
    await ready()
    const bench = [join(DIST, 'test/bench/main.js'), ...args]
    if (!args.includes('--kernel')) return node(bench)
    await ensureNatives()
    await node([RIG, 'run', '--timeout', '900', '--', process.execPath, ...bench])
  },
  /** The Debian package: pi-image/package.mjs says how. */
  async package(args) {
    await ready()
    await node([join(ROOT, 'pi-image/package.mjs'), ...args])
  },
  /** The image of a card: pi-image/image.mjs says how. */
  async image(args) {
    await ready()
    await node([join(ROOT, 'pi-image/image.mjs'), ...args])
  },
  /** The package and the image, tested: installed in a root file system, booted in a machine. */
  async testImage(args) {
    await ready()
    await tool('vitest', ['run', '--config', 'test/image/vitest.config.ts', ...args])
  },
  /** Draws the pictures of README.md and deploy/README.md from a push that it records. */
  async pictures(args) {
    await ready()
    await node([join(DIST, 'test/pictures/main.js'), ...args])
  },
  /** Without arguments, all but the battery; what is asked for by name is looked for in every file. */
  async test(args) {
    await ready()
    await vitest(args.length > 0 ? args : WITHOUT_BATTERY)
  },
  /** `--sixth`: every sixth file, which ones by the commit. */
  async long(args) {
    await ready()
    const sixth = args.includes('--sixth')
    const more = args.filter((word) => word !== '--sixth')
    const files = sixth ? BATTERY.filter((_, index) => index % 6 === commitNumber() % 6) : BATTERY
    await vitest([...files, ...more])
    await vitest([...ALONE, ...more])
  },
  /** `--long`: 200 swaps in 8 slots, else 30 in 2. `--seed N`: the same choices again. */
  async soak(args) {
    await ready()
    const seed = args[args.indexOf('--seed') + 1]
    const env = {
      ...process.env,
      ...(args.includes('--long') ? { MEDULLA_LONG: '1' } : {}),
      ...(args.includes('--seed') ? { MEDULLA_SEED: seed } : {}),
    }
    await tool('vitest', ['run', '--config', 'test/soak/vitest.config.ts'], { env })
  },
  /** Random cases, 20,000 in each file; `--long`: 1,000,000. `--seed N --count N`: these again. */
  async fuzz(args) {
    await ready()
    const value = (option) => (args.includes(option) ? args[args.indexOf(option) + 1] : undefined)
    const env = { ...process.env }
    const count = value('--count') ?? (args.includes('--long') ? '1000000' : undefined)
    if (count !== undefined) env.MEDULLA_FUZZ_COUNT = count
    const seed = value('--seed')
    if (seed !== undefined) env.MEDULLA_FUZZ_SEED = seed
    const names = args.filter((word) => !/^(?:--.*|\d+)$/.test(word))
    await tool('vitest', ['run', '--config', 'test/fuzz/vitest.config.ts', ...names], { env })
  },
  async lint(args) {
    await ensureInstalled()
    await tool('biome', ['check', '--error-on-warnings', ...(args.length > 0 ? args : ['.'])])
  },
  /** `--no-tests`: for CI, which runs all of them anyway. */
  async check(args) {
    await ensureInstalled()
    await tool('biome', ['check', '--error-on-warnings', '.'])
    await tool('tsc', ['--noEmit', '-p', 'tsconfig.json'])
    await tool('knip', ['--treat-config-hints-as-errors'])
    await ensureBuilt()
    if (!args.includes('--no-tests')) await vitest([...FAST, ...WITHOUT_BATTERY, ...args])
  },
  /** What needs a real Linux kernel: test/kernel/run.mjs says how, and for how long. */
  async kernel(args) {
    await ready()
    await TASKS.natives()
    await node([join(ROOT, 'test/kernel/run.mjs'), ...args])
  },
  async fast(args) {
    await ready()
    await vitest([...FAST, ...WITHOUT_BATTERY, ...args])
  },
}

async function ready() {
  await ensureInstalled()
  await ensureBuilt()
}

/** Of the last commit's name; 0 where there is no git. */
function commitNumber() {
  const { stdout } = spawnSync('git', ['rev-parse', 'HEAD'], { cwd: ROOT, encoding: 'utf8' })
  return Number.parseInt(stdout?.slice(0, 8) || '0', 16)
}

/** Installs when node_modules is absent, or was made from another lock file, for another Node, or on another computer. */
async function ensureInstalled() {
  const lockText = readFileSync(join(ROOT, 'package-lock.json'), 'utf8')
  const wanted = {
    lock: sha256(lockText),
    node: process.versions.node.split('.')[0],
    platform: `${process.platform}-${process.arch}`,
  }
  const record = join(NODE_MODULES, '.medulla.json')
  const reason = staleness(wanted, readJson(record), JSON.parse(lockText))
  if (reason !== undefined) {
    say(`installing packages (npm ci): ${reason}`)
    // npm writes to stdout what belongs on stderr here
    await run(...npm(['ci', '--loglevel', 'error']), { stdio: ['ignore', 2, 2] })
  }
  const text = `${JSON.stringify(wanted)}\n`
  if (!existsSync(record) || readFileSync(record, 'utf8') !== text) writeFileSync(record, text)
}

function staleness(wanted, made, lock) {
  if (!existsSync(NODE_MODULES)) return 'there is no node_modules'
  if (made !== undefined && made.node !== wanted.node)
    return `installed for Node ${made.node}, this is Node ${wanted.node}`
  if (made !== undefined && made.platform !== wanted.platform) {
    return `installed for ${made.platform}, this is ${wanted.platform}`
  }
  if (made?.lock === wanted.lock) return undefined
  return unlike(lock, readJson(join(NODE_MODULES, '.package-lock.json')))
}

/** Good when what is there is what the lock file says, whoever installed it. Optional packages may be absent. */
function unlike(lock, installed) {
  if (installed === undefined) return 'node_modules is not whole'
  for (const [path, { version, optional, devOptional }] of Object.entries(lock.packages)) {
    const there = installed.packages[path]
    if (path === '' || (there === undefined && (optional || devOptional))) continue
    if (there?.version !== version) return `${path} is ${there?.version ?? 'absent'}, expected ${version}`
  }
  return undefined
}

/** Compiles what does not load. Made once for a Node; `npm ci` takes the record away with the rest. */
async function ensureNatives() {
  const wanted = { abi: process.versions.modules, platform: `${process.platform}-${process.arch}`, natives: natives() }
  const record = join(NODE_MODULES, '.medulla-natives.json')
  const text = `${JSON.stringify(wanted)}\n`
  if (existsSync(record) && readFileSync(record, 'utf8') === text) return
  const broken = wanted.natives.filter((name) => !loads(name))
  if (broken.length > 0) {
    say(`compiling ${broken.join(', ')} (npm rebuild)`)
    // the headers beside this Node, where there are any, need not be fetched
    const prefix = dirname(dirname(process.execPath))
    const headers = existsSync(join(prefix, 'include/node/node.h')) ? { npm_config_nodedir: prefix } : {}
    const env = { ...headers, ...process.env }
    await run(...npm(['rebuild', '--loglevel', 'error', ...broken]), { stdio: ['ignore', 2, 2], env })
    const left = broken.filter((name) => !loads(name))
    if (left.length > 0) {
      say(`error: ${left.join(', ')} cannot be compiled: a C++ compiler, make and Python are needed`)
      throw new TaskFailed(1)
    }
  }
  writeFileSync(record, text)
}

/** koffi brings its own; pigpio is a stub where its library is not. */
function natives() {
  const pigpio = (process.env.PATH ?? '').split(delimiter).some((folder) => existsSync(join(folder, 'pigpiod')))
  return ['epoll', 'i2c-bus', ...(pigpio ? ['pigpio'] : [])]
}

/** In a process of its own: a native module that does not fit can end one. */
function loads(name) {
  return (
    spawnSync(process.execPath, ['-e', `require(${JSON.stringify(name)})`], { cwd: ROOT, stdio: 'ignore' }).status === 0
  )
}

async function ensureBuilt() {
  const record = readJson(join(DIST, '.medulla.json'))
  // what runs is compiled; whether its types are right is asked by `check` and `build`
  if (record?.sources !== fingerprint()) await build(['--noCheck'])
}

/** Whole or not at all: compiled beside, then moved. */
async function build(flags = []) {
  const sources = fingerprint()
  say('compiling (tsc)')
  const beside = join(NODE_MODULES, `.medulla-dist-${process.pid}`)
  try {
    await tool('tsc', ['-p', 'tsconfig.json', '--outDir', beside, ...flags], { stdio: ['ignore', 2, 2] })
    const { bundleDist } = await import('./bundledist.mjs')
    await bundleDist(beside)
    writeFileSync(join(beside, '.medulla.json'), `${JSON.stringify({ sources })}\n`)
    rmSync(DIST, { recursive: true, force: true })
    renameSync(beside, DIST)
  } finally {
    rmSync(beside, { recursive: true, force: true })
  }
}

/** Of tsconfig and of path, size and time of every source file. */
function fingerprint() {
  const files = SOURCES.flatMap((folder) => walk(join(ROOT, folder)))
  const lines = files.map((file) => {
    const { size, mtimeMs } = statSync(file)
    return `${relative(ROOT, file)} ${size} ${mtimeMs}`
  })
  return sha256([readFileSync(join(ROOT, 'tsconfig.json'), 'utf8'), ...lines.sort()].join('\n'))
}

function walk(folder) {
  if (!existsSync(folder)) return []
  return readdirSync(folder, { withFileTypes: true }).flatMap((entry) => {
    const path = join(folder, entry.name)
    if (entry.isDirectory()) return walk(path)
    return entry.name.endsWith('.ts') ? [path] : []
  })
}

function vitest(args) {
  return tool('vitest', ['run', '--config', 'test/vitest.config.ts', ...args])
}

function tool(name, args, options) {
  return node([join(NODE_MODULES, TOOLS[name]), ...args], options)
}

function node(args, options) {
  return run(process.execPath, args, options)
}

/** The npm that runs this script, or the one on the path. */
function npm(args) {
  const { npm_execpath: cli } = process.env
  if (cli !== undefined && basename(dirname(cli)) === 'bin' && cli.endsWith('.js'))
    return [process.execPath, [cli, ...args]]
  return [process.platform === 'win32' ? 'npm.cmd' : 'npm', args]
}

/** Ends this process with the exit code of a child that fails. */
async function run(file, args, { stdio = 'inherit', env = process.env } = {}) {
  const child = spawn(file, args, { cwd: ROOT, stdio, env, shell: file.endsWith('.cmd') })
  const status = await new Promise((resolve, reject) => {
    forward = (signal) => child.kill(signal)
    child.once('error', reject)
    child.once('close', (code, signal) => resolve(signal === null ? code : 1))
  })
  if (status !== 0) throw new TaskFailed(status)
}

let forward = (_signal) => {}
/** A terminal sends Ctrl-C to the child as well: this process waits for it. */
process.on('SIGINT', () => {})
process.on('SIGTERM', () => forward('SIGTERM'))

class TaskFailed extends Error {
  constructor(status) {
    super(`ended with ${status}`)
    this.status = status
  }
}

function readJson(path) {
  try {
    return JSON.parse(readFileSync(path, 'utf8'))
  } catch {
    return undefined
  }
}

function sha256(text) {
  return createHash('sha256').update(text).digest('hex')
}

function say(text) {
  process.stderr.write(`medulla: ${text}\n`)
}

const [major = 0, minor = 0] = process.versions.node.split('.').map(Number)
const [name = '', ...given] = process.argv.slice(2)
if (major < 20 || (major === 20 && minor < 19)) {
  say(`error: Node 20.19 or newer is needed, this is ${process.version}`)
  process.exitCode = 1
} else if (!Object.hasOwn(TASKS, name)) {
  say(`error: expected a task of ${Object.keys(TASKS).join(', ')}, got ${JSON.stringify(name)}`)
  process.exitCode = 2
} else {
  try {
    await TASKS[name](given[0] === '--' ? given.slice(1) : given)
  } catch (error) {
    if (!(error instanceof TaskFailed)) throw error
    process.exitCode = error.status
  }
}
