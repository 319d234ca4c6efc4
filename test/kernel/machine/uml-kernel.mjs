/**
 * Makes the rig's user-mode kernel: Linux as an ordinary program (Documentation/virt/uml), from the source of Debian's
 * backports, since two processors and the fast `seccomp=on` came with 7.x. The result is a folder with `linux` and
 * `initrd.gz` (the modules), which is also what MEDULLA_RIG_KERNEL takes.
 */
import { spawn } from 'node:child_process'
import {
  appendFileSync,
  copyFileSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs'
import { availableParallelism } from 'node:os'
import { basename, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { gzipSync } from 'node:zlib'
import { debianRelease, PrivateApt, requirePackages } from '../../../pi-image/tools/debian.mjs'
import { BuildError } from '../../../pi-image/tools/error.mjs'
import { cacheFolder, key, run, wholeOrNot } from '../../../pi-image/tools/exec.mjs'
import { cpio } from './cpio.mjs'
import { packages } from './packages.mjs'

const HERE = fileURLToPath(new URL('.', import.meta.url))
const MODULE_SOURCES = join(HERE, '../modules')
const CONFIG = join(HERE, 'uml.config')

const SUITE = 'trixie-backports'
const SOURCE = 'linux-source-7.2'

/** What a kernel of this configuration has, about: for the progress that is shown. */
const FILES = 1450

/**
 * The kernel's functions that a test traces, as trace.ts names them: user-mode Linux has no kprobes, so each gets a
 * tracepoint at its entry with the name and the text that a kprobe of trace.ts has.
 */
const TRACEPOINTS = [
  { name: 'open_gpiochip', file: 'drivers/gpio/gpiolib-cdev.c', at: 'gpio_chrdev_open', opens: true },
  { name: 'open_i2c', file: 'drivers/i2c/i2c-dev.c', at: 'i2cdev_open', opens: true },
  { name: 'open_spi', file: 'drivers/spi/spidev.c', at: 'spidev_open', opens: true },
  { name: 'request', file: 'drivers/gpio/gpiolib-cdev.c', at: 'linereq_create' },
  { name: 'request_v1', file: 'drivers/gpio/gpiolib-cdev.c', at: 'linehandle_create' },
  { name: 'release', file: 'drivers/gpio/gpiolib-cdev.c', at: 'linereq_release' },
  { name: 'configure', file: 'drivers/gpio/gpiolib-cdev.c', at: 'linereq_set_config' },
  { name: 'export', file: 'drivers/gpio/gpiolib-sysfs.c', at: 'gpiod_export' },
  { name: 'unexport', file: 'drivers/gpio/gpiolib-sysfs.c', at: 'gpiod_unexport' },
]

/** @returns {{ kernel: string, initrd: string } | undefined} the files to boot, when they were built before */
export function builtKernel() {
  const files = filesIn(folderOfBuild())
  return existsSync(files.kernel) && existsSync(files.initrd) ? files : undefined
}

/**
 * Builds it unless it is there: 3 to 10 minutes on two cores, 3 GB of disk meanwhile, 10 MB afterwards.
 *
 * @param {(text: string) => void} say called with a text about each step, and with the progress of compiling
 * @returns {Promise<{ kernel: string, initrd: string }>} the files to boot
 * @throws {BuildError} when something is missing or fails, with what to do
 */
export async function buildKernel(say) {
  const built = builtKernel()
  if (built !== undefined) return built
  const release = debianRelease(['bookworm', 'trixie'])
  requirePackages(packages('build'))
  const folder = folderOfBuild()
  await wholeOrNot(folder, async (beside) => {
    const source = fetchSource(release, beside, say)
    say('configuring it')
    patch(source)
    addModules(source)
    configure(source)
    await compile(source, say)
    const { kernel, initrd } = filesIn(beside)
    copyFileSync(join(source, 'linux'), kernel)
    run('strip', ['--strip-debug', kernel])
    writeFileSync(initrd, gzipSync(modules(source)))
    rmSync(source, { recursive: true })
  })
  return filesIn(folder)
}

const filesIn = (folder) => ({ kernel: join(folder, 'linux'), initrd: join(folder, 'initrd.gz') })

function folderOfBuild() {
  const inputs = readdirSync(MODULE_SOURCES).sort()
  const paths = [CONFIG, ...inputs.map((name) => join(MODULE_SOURCES, name))]
  const steps = [SUITE, SOURCE, JSON.stringify(TRACEPOINTS), patch, insert, tracepoints, addModules]
  return join(cacheFolder('medulla-rig'), `uml-${key([...steps, ...paths.map((path) => readFileSync(path))])}`)
}

function fetchSource(release, folder, say) {
  say(`fetching ${SOURCE} of ${SUITE} (165 MB)`)
  const deb = new PrivateApt(SUITE, join(folder, 'apt'), release).download([SOURCE], join(folder, 'debs'))
  say('unpacking it')
  const source = join(folder, 'source')
  mkdirSync(source)
  const tar = `tar -xJ --strip-components=1 -C '${source}'`
  run('sh', ['-c', `dpkg-deb --fsys-tarfile '${deb(SOURCE)}' | tar -xO ./usr/src/${SOURCE}.tar.xz | ${tar}`])
  for (const name of ['apt', 'debs']) rmSync(join(folder, name), { recursive: true })
  return source
}

function patch(source) {
  // Begun at the last bit found, a lower line that became pending meanwhile is never found and the loop never ends.
  replace(
    join(source, 'kernel/irq/irq_sim.c'),
    /find_next_bit\((work_ctx->pending),\s*(work_ctx->irq_count), offset\)/,
    'find_first_bit($1, $2)',
  )
  writeFileSync(join(source, 'include/trace/events/medulla.h'), tracepoints())
  writeFileSync(
    join(source, 'fs/medulla_trace.c'),
    '#include <linux/fs.h>\n#define CREATE_TRACE_POINTS\n#include <trace/events/medulla.h>\n',
  )
  appendFileSync(join(source, 'fs/Makefile'), '\nobj-y += medulla_trace.o\n')
  for (const { name, file, at, opens } of TRACEPOINTS) {
    const path = join(source, file)
    const signature = new RegExp(`^\\w[\\w *]*\\b${at}\\(([^;{]*)\\)\\n\\{\\n`, 'm')
    const [, parameters = ''] = signature.exec(readFileSync(path, 'utf8')) ?? []
    const argument = opens ? /struct file \*(\w+)/.exec(parameters)?.[1] : '0'
    if (argument === undefined) throw unexpected(path, `${at} with a struct file`)
    insert(path, signature, `trace_${name}(${argument});`)
  }
  // A path is read from the caller's memory first: after that it is a name, or an error.
  insert(
    join(source, 'fs/open.c'),
    /^\tCLASS\(filename_flags, (name)\)\(filename, [^;]*\);\n/m,
    'if (!IS_ERR(name)) trace_open_path(name->name);',
  )
}

/** Puts a statement behind the match, and the tracepoints' header before the first include. */
function insert(path, behind, statement) {
  replace(path, behind, (text) => `${text}\t${statement}\n`)
  const header = '#include <trace/events/medulla.h>\n'
  if (!readFileSync(path, 'utf8').includes(header)) replace(path, /^#include/m, `${header}#include`)
}

function replace(path, pattern, replacement) {
  const text = readFileSync(path, 'utf8')
  if (!pattern.test(text)) throw unexpected(path, pattern)
  writeFileSync(path, text.replace(pattern, replacement))
}

function unexpected(path, what) {
  return new BuildError(
    `${SOURCE}: ${basename(path)} has no ${what}`,
    'look at TRACEPOINTS and patch in uml-kernel.mjs',
  )
}

/** A header for define_trace.h (Documentation/trace/tracepoints.rst). */
function tracepoints() {
  const event = ({ name, opens }) =>
    opens
      ? `DEFINE_EVENT(medulla_open, ${name}, TP_PROTO(struct file *file), TP_ARGS(file));`
      : `DEFINE_EVENT(medulla_call, ${name}, TP_PROTO(int unused), TP_ARGS(unused));`
  return `/* SPDX-License-Identifier: GPL-2.0 */
#undef TRACE_SYSTEM
#define TRACE_SYSTEM medulla
#if !defined(_TRACE_MEDULLA_H) || defined(TRACE_HEADER_MULTI_READ)
#define _TRACE_MEDULLA_H
#include <linux/fs.h>
#include <linux/tracepoint.h>
DECLARE_EVENT_CLASS(medulla_open, TP_PROTO(struct file *file), TP_ARGS(file),
	TP_STRUCT__entry(__string(name, file->f_path.dentry->d_name.name)),
	TP_fast_assign(__assign_str(name);),
	TP_printk("name=\\"%s\\"", __get_str(name)));
DECLARE_EVENT_CLASS(medulla_call, TP_PROTO(int unused), TP_ARGS(unused),
	TP_STRUCT__entry(__field(int, unused)),
	TP_fast_assign(__entry->unused = unused;),
	TP_printk("%d", __entry->unused));
TRACE_EVENT(open_path, TP_PROTO(const char *path), TP_ARGS(path),
	TP_STRUCT__entry(__string(path, path)),
	TP_fast_assign(__assign_str(path);),
	TP_printk("path=\\"%s\\"", __get_str(path)));
${TRACEPOINTS.map(event).join('\n')}
#endif
#include <trace/define_trace.h>
`
}

/** Ours are compiled with the kernel, as modules of it. */
function addModules(source) {
  const folder = join(source, 'drivers/misc/medulla')
  mkdirSync(folder)
  for (const name of moduleNames()) copyFileSync(join(MODULE_SOURCES, `${name}.c`), join(folder, `${name}.c`))
  const objects = moduleNames().map((name) => `${name}.o`)
  writeFileSync(join(folder, 'Makefile'), `obj-m += ${objects.join(' ')}\n`)
  appendFileSync(join(source, 'drivers/Makefile'), '\nobj-m += misc/medulla/\n')
}

function moduleNames() {
  const names = readdirSync(MODULE_SOURCES).filter((name) => name.endsWith('.c'))
  return names.map((name) => basename(name, '.c')).sort()
}

function make(source, ...targets) {
  return ['-s', '-C', source, 'ARCH=um', 'SUBARCH=x86_64', ...targets]
}

function configure(source) {
  run('make', make(source, 'tinyconfig'))
  run(join(source, 'scripts/kconfig/merge_config.sh'), ['-m', '-O', source, join(source, '.config'), CONFIG])
  run('make', make(source, 'olddefconfig'))
  const taken = new Set(readFileSync(join(source, '.config'), 'utf8').split('\n'))
  const wanted = readFileSync(CONFIG, 'utf8')
    .split('\n')
    .filter((line) => line.startsWith('CONFIG_'))
  const refused = wanted.filter((line) => !taken.has(line))
  if (refused.length > 0) throw new BuildError(`${SOURCE} does not take ${refused.join(', ')}`, 'look at uml.config')
}

/** Says how far it is, each half minute. */
async function compile(source, say) {
  say('compiling it: 3 to 10 minutes on two cores')
  const args = make(source, `-j${availableParallelism()}`, 'linux', 'modules').filter((word) => word !== '-s')
  const child = spawn('make', args, { stdio: ['ignore', 'pipe', 'pipe'], env: { ...process.env, LC_ALL: 'C' } })
  let compiled = 0
  let errors = ''
  child.stdout.setEncoding('utf8').on('data', (text) => {
    compiled += text.split('\n').filter((line) => /^\s+(CC|AR|LD)\b/.test(line)).length
  })
  child.stderr.setEncoding('utf8').on('data', (text) => {
    errors = (errors + text).slice(-4000)
  })
  const timer = setInterval(() => say(`${compiled} of about ${FILES} files`), 30_000)
  const status = await new Promise((resolve, reject) => {
    child.once('error', reject)
    child.once('close', resolve)
  })
  clearInterval(timer)
  if (status !== 0) throw new BuildError(`make ended with ${status}: ${errors.trim()}`, 'see the message above')
}

function modules(source) {
  const entries = moduleNames().map((name) => {
    const data = readFileSync(join(source, 'drivers/misc/medulla', `${name}.ko`))
    return { path: `mods/${name}.ko`, mode: 0o100644, data }
  })
  return cpio(entries)
}
