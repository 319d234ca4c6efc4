/**
 * What the npm scripts run, so that none of them needs a shell: `node test/run.mjs TASK [args]`. Node and its own modules
 * only, since it must work before anything is installed. Everything but a task's own output goes to stderr.
 */
import { spawn, spawnSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import { existsSync, readdirSync, readFileSync, renameSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { basename, delimiter, dirname, join, relative } from 'node:path'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'

const ROOT = fileURLToPath(new URL('..', import.meta.url))
const NODE_MODULES = join(ROOT, 'node_modules')
const DIST = join(ROOT, 'dist')
const SOURCES = ['drivers', 'deploy', 'runtime', 'robots', 'test/bench']

const TOOLS = {
  tsc: 'typescript/bin/tsc',
  biome: '@biomejs/biome/bin/biome',
  knip: 'knip/bin/knip.js',
  vitest: 'vitest/vitest.mjs',
}

const RIG = join(ROOT, 'test/kernel/rig.mjs')

/** Slower than a Pi by this much: every deadline is stretched. */
const RIG_SCALE = 6
/** The same for tests that are made for any machine: their 1 kHz writers leave the only processor little time. */
const RIG_SCALE_ALSO = 10
/** Three times what the longest test without a line of its own takes. */
const SILENT_MS = 8 * 60_000
/**
 * Two machines of one processor each, side by side. Files for the rig, and which of the tests that are made for any machine
 * run there, too: all of them with --long, some of the first files in CI.
 */
const KERNEL_PARTS = [
  {
    name: 'bodies',
    kernel: ['rig.rig', 'bodykills', 'standby', 'kernel/kills', 'lines', 'buses', 'contract', 'doctor'],
    also: ['test/runtime/confinement.test.ts', 'test/runtime/seccomp.test.ts', 'test/runtime/cgroups.test.ts'],
    ci: { files: 3, only: 'HANDLES 13.2|HANDLES 10' },
  },
  {
    name: 'swaps',
    kernel: ['swaps', 'unfenced', 'hostile'],
    also: ['test/e2e/undone.test.ts', 'test/e2e/swap.test.ts', 'test/e2e/running.test.ts'],
    ci: { files: 1, only: 'dies-in-trial' },
  },
]

/** Tests that take long carry `{ tags: ['slow'] }`; `check` leaves them to `test`. */
const FAST = ['--tags-filter', '!slow']

/** What takes most of the time: a battery of its own, `test:long`. */
const BATTERY = [
  'test/bundle/bits.test.ts',
  'test/cli/day.test.ts',
  'test/cli/live.test.ts',
  'test/cli/readme.test.ts',
  'test/cli/scenario.test.ts',
  'test/cli/screens.test.ts',
  'test/cli/transcripts.test.ts',
  'test/cli/watch.test.ts',
  'test/e2e/bigstate.test.ts',
  'test/e2e/params.test.ts',
  'test/e2e/robots.test.ts',
  'test/e2e/running.test.ts',
  'test/e2e/spare.test.ts',
  'test/e2e/undone.test.ts',
]
/** The same, with nothing beside it: it holds the standby to the times that it states. */
const ALONE = ['test/runtime/standby.test.ts']

const WITHOUT_BATTERY = [...BATTERY, ...ALONE].flatMap((file) => ['--exclude', file])

const TOOLS_IN_RIG = 'node_modules/vitest/vitest.mjs'

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
    await node([join(DIST, 'deploy/cli/demo.js'), ...args])
  },
  /** `--kernel`: in the rig, which has the devices. */
  async bench(args) {
    await ready()
    const bench = [join(DIST, 'test/bench/main.js'), ...args]
    if (!args.includes('--kernel')) return node(bench)
    await ensureNatives()
    await node([join(ROOT, 'test/kernel/rig.mjs'), 'run', '--timeout', '900', '--', process.execPath, ...bench])
  },
  /** Without arguments, all but the battery; what is asked for by name is looked for in every file. */
  async test(args) {
    await ready()
    await vitest(args.length > 0 ? args : WITHOUT_BATTERY)
  },
  async long(args) {
    await ready()
    await vitest([...BATTERY, ...args])
    await vitest([...ALONE, ...args])
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
  /**
   * What needs a real Linux kernel with lines and buses, in a virtual machine (test/kernel/rig.mjs). `--long`: every round
   * of it, which takes hours; else the size for CI. Two machines side by side, as each has one busy processor most of the time.
   */
  async kernel(args) {
    await ready()
    await TASKS.natives()
    await node([RIG, 'build'])
    const long = args.includes('--long')
    const results = await Promise.all(KERNEL_PARTS.map((part) => inRig(part, long)))
    const failed = results.filter(({ status }) => status !== 0)
    // what went wrong is a quarter of an hour of two machines' lines further up
    for (const { name, status, failures } of failed)
      say([`error: ${name} ended with ${status}`, ...failures].join('\n'))
    if (failed.length > 0) throw new TaskFailed(failed[0].status)
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
    await bundleCli(beside)
    await bundleRuntime(beside)
    writeFileSync(join(beside, '.medulla.json'), `${JSON.stringify({ sources })}\n`)
    rmSync(DIST, { recursive: true, force: true })
    renameSync(beside, DIST)
  } finally {
    rmSync(beside, { recursive: true, force: true })
  }
}

/**
 * The command line as few files: opening 40 modules one after the other would cost each push 15 ms. What a command does
 * not need stays apart, and what is heavy or native stays in its package.
 */
async function bundleCli(dist) {
  const { build: bundle } = await import('esbuild')
  const cli = join(dist, 'deploy/cli')
  await bundle({
    entryPoints: [join(cli, 'main.js'), join(cli, 'demo.js')],
    outdir: cli,
    allowOverwrite: true,
    bundle: true,
    splitting: true,
    format: 'esm',
    platform: 'node',
    target: 'node20',
    minifySyntax: true,
    minifyWhitespace: true,
    external: ['chokidar', 'esbuild'],
    logLevel: 'warning',
    banner: {
      js: [
        '/*! holds commander, tar-stream, @noble/ciphers (MIT) and age-encryption (BSD), see their packages for who owns them */',
        "import{createRequire as medullaRequire}from'node:module';const require=medullaRequire(import.meta.url);",
      ].join('\n'),
    },
  })
}

/**
 * Every process of the robot as few files: from a memory card a hundred of them cost a second. Native packages stay apart,
 * and so does what is loaded only when somebody needs it.
 */
async function bundleRuntime(dist) {
  const { build: bundle } = await import('esbuild')
  const runtime = join(dist, 'runtime')
  const entries = ['main', 'endpoint/main', 'endpoint/opener-thread', 'store/doorworker', 'sdk/loader', 'standby/main']
  await bundle({
    entryPoints: entries.map((name) => join(runtime, `${name}.js`)),
    outdir: runtime,
    outbase: runtime,
    allowOverwrite: true,
    bundle: true,
    splitting: true,
    format: 'esm',
    platform: 'node',
    target: 'node20',
    external: ['koffi', '@koromix/*', 'onoff', 'epoll', 'i2c-bus', 'pigpio'],
    logLevel: 'warning',
    banner: {
      js: [
        '/*! holds express, pino, zod, tar-stream, age-encryption (BSD) and what they need; else MIT or ISC, see their packages */',
        "import{createRequire as medullaRequire}from'node:module';const require=medullaRequire(import.meta.url);",
      ].join('\n'),
    },
  })
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

/**
 * Now and then the process of the tests in an emulated machine stops for good, for a reason not found: robot and programs go
 * on, while not even a timer of its own fires. A part that says nothing for {@link SILENT_MS} is run once more, and this is said.
 * What the robot does not answer is no such thing: tests wait for that with deadlines, which need timers.
 */
async function inRig(part, long) {
  const result = await onceInRig(part, long)
  if (!result.silent) return result
  say(`${part.name}: not a line for ${SILENT_MS / 60_000} min: this machine has stopped, and is started once more`)
  return onceInRig(part, long)
}

/**
 * One machine: first the files for the rig, then the others. Each line that it writes begins with its name. Gives its exit
 * code, and again what vitest says of failed tests.
 */
async function onceInRig({ name, kernel, also, ci }, long) {
  const run = `node ${TOOLS_IN_RIG} run --reporter=verbose --config`
  const only = long ? '' : ` -t '${ci.only}'`
  const commands = [
    `${run} test/kernel/vitest.config.ts ${kernel.join(' ')}`,
    `MEDULLA_TIME_SCALE=${RIG_SCALE_ALSO} ${run} test/vitest.config.ts --no-file-parallelism ${also.slice(0, long ? also.length : ci.files).join(' ')}${only}`,
  ]
  const env = [
    ...[`MEDULLA_TIME_SCALE=${RIG_SCALE}`, 'MEDULLA_SANDBOX=namespaces', 'NO_COLOR=1'],
    ...(long ? ['MEDULLA_LONG=1'] : []),
  ]
  const args = [
    RIG,
    'run',
    '--cpus',
    long ? '2' : '1',
    '--timeout',
    long ? '21600' : '2400',
    ...env.flatMap((pair) => ['--env', pair]),
  ]
  // the second runs whatever became of the first
  const script = `${commands[0]}; first=$?; ${commands[1]} && exit $first`
  const child = spawn(process.execPath, [...args, '--', 'sh', '-c', script], {
    cwd: ROOT,
    stdio: ['ignore', 'pipe', 'pipe'],
  })
  const failures = []
  let failing = false
  let silent = false
  const stop = () => {
    silent = true
    child.kill('SIGTERM')
  }
  // rounds of the long form take longer than that
  const watchdog = long ? null : setTimeout(stop, SILENT_MS)
  for (const stream of [child.stdout, child.stderr]) {
    createInterface({ input: stream }).on('line', (line) => {
      if (line.trim() === '') return
      watchdog?.refresh()
      process.stdout.write(`${name}: ${line}\n`)
      if (/ Failed (Tests|Suites) /.test(line)) failing = true
      else if (/^ *Test Files /.test(line)) failing = false
      if (failing) failures.push(`  ${line}`)
    })
  }
  return new Promise((resolve) => {
    child.once('close', (status) => {
      clearTimeout(watchdog)
      resolve({ name, status: status ?? 1, failures, silent })
    })
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
