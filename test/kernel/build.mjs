/**
 * Makes what the rig boots: Debian's own 6.12 kernel, and an initial RAM disk with Debian's modules, those in modules/ and
 * gpio-sim, which Debian's kernel lacks and whose source Debian ships. Nothing is installed: packages are unpacked into
 * the cache. What is fetched is kept by Debian release; the rest is made anew when a file of it changes.
 */
import { execFileSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import {
  copyFileSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  writeFileSync,
} from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { cpio } from './cpio.mjs'
import { RigError } from './error.mjs'

const HERE = fileURLToPath(new URL('.', import.meta.url))
const CACHE = join(HERE, '../../node_modules/.cache/medulla-rig')

/** Where each release of Debian has 6.12, built with its own compiler and C library. */
const SUITES = { bookworm: 'bookworm-backports', trixie: 'trixie' }

/** Of Debian's modules, those that the rig needs, without what they depend on; then ours, in the order of their loading. */
const DEBIAN_MODULES = ['9pnet_virtio', '9p', 'overlay', 'configfs', 'i2c-dev', 'virtio_net']
const MODULES = ['irq_sim', 'gpio-sim', 'medulla_i2c', 'medulla_pwm', 'medulla_spi']

const APPLETS =
  'cat chroot cp echo hostname ifconfig insmod kill ln mkdir mkfifo mount reboot setsid sh sleep switch_root'.split(' ')

/**
 * @param {(text: string) => void} say told about each step
 * @returns {{ kernel: string, initrd: string }} the files to boot, made now or before
 * @throws {RigError} when something is missing or fails, with what to do
 */
export function build(say) {
  const suite = hostSuite()
  const sources = join(CACHE, `debian-${key([suite, ...DEBIAN_MODULES, fetchDebian])}`)
  const inputs = readdirSync(join(HERE, 'modules')).map((name) => join(HERE, 'modules', name))
  const names = [...['init.sh', 'build.mjs', 'cpio.mjs'].map((name) => join(HERE, name)), ...inputs.sort()]
  const image = join(CACHE, `image-${key([sources, ...names.map((name) => readFileSync(name))])}`)
  const files = { kernel: join(sources, 'vmlinuz'), initrd: join(image, 'initrd') }
  if (existsSync(files.initrd) && existsSync(files.kernel)) return files
  const missing = missingPackages()
  if (missing.length > 0) {
    throw new RigError(
      `packages of Debian are missing: ${missing.join(' ')}`,
      `apt-get install --no-install-recommends ${missing.join(' ')}`,
    )
  }
  if (!existsSync(sources)) wholeOrNot(sources, (folder) => fetchDebian(suite, folder, say))
  wholeOrNot(image, (folder) => makeImage(sources, folder, say))
  return files
}

/** The packages of the host that build() and boot() need. */
export function packages() {
  const lines = readFileSync(join(HERE, 'packages.txt'), 'utf8').split('\n')
  return lines.filter((line) => line !== '' && !line.startsWith('#'))
}

function missingPackages() {
  return packages().filter((name) => {
    try {
      return !output('dpkg-query', ['-s', name]).includes('Status: install ok installed')
    } catch {
      return true
    }
  })
}

function hostSuite() {
  const release = existsSync('/etc/os-release') ? readFileSync('/etc/os-release', 'utf8') : ''
  const name = /^VERSION_CODENAME=(.*)$/m.exec(release)?.[1] ?? ''
  if (/^ID=debian$/m.test(release) && Object.hasOwn(SUITES, name)) return SUITES[name]
  throw new RigError(
    `the rig is built on Debian ${Object.keys(SUITES).join(' or ')} (amd64), this is ${name || 'another system'}`,
    'run it in a container or a virtual machine with that system',
  )
}

/** Fills the folder with vmlinuz, modules/, headers/ and gpio/ (the sources of gpio-sim). */
function fetchDebian(suite, folder, say) {
  say(`fetching the 6.12 kernel of ${suite}`)
  const apt = privateApt(suite, join(folder, 'apt'))
  run('apt-get', [...apt, '-qq', 'update'])
  const [image, source] = ['linux-image-amd64', 'linux-source'].map((name) => {
    const depends = /^Depends: (\S+)/m.exec(output('apt-cache', [...apt, 'show', '--no-all-versions', name]))?.[1]
    if (depends === undefined) throw new RigError(`${suite} has no package ${name}`, 'look at the mirror apt uses')
    return depends
  })
  const version = image.slice('linux-image-'.length)
  const base = version.replace(/-amd64$/, '')
  const debs = join(folder, 'debs')
  mkdirSync(debs)
  const wanted = [image, `linux-headers-${version}`, `linux-headers-${base}-common`, `linux-kbuild-${base}`, source]
  run('apt-get', [...apt, '-qq', 'download', ...wanted], { cwd: debs })
  const deb = (name) => join(debs, readdirSync(debs).find((file) => file.startsWith(`${name}_`)) ?? name)

  say(`unpacking ${version}`)
  const headers = join(folder, 'headers')
  for (const name of wanted.slice(1, 4)) run('dpkg-deb', ['-x', deb(name), headers])
  // there for BTF, which nothing here reads
  rmSync(join(headers, 'usr/src', `linux-headers-${version}`, 'vmlinux'), { force: true })
  writeFileSync(join(folder, 'version'), version)

  const unpacked = join(folder, 'image')
  run('dpkg-deb', ['-x', deb(image), unpacked])
  renameSync(join(unpacked, 'boot', `vmlinuz-${version}`), join(folder, 'vmlinuz'))
  collectModules(join(unpacked, 'lib/modules', version), join(unpacked, 'usr/lib/modules', version), folder)

  const gpio = join(folder, 'gpio')
  mkdirSync(gpio)
  const files = ['drivers/gpio/gpio-sim.c', 'kernel/irq/irq_sim.c'].map((file) => `${source}/${file}`)
  // tar ends when it has both, which breaks the pipes before it: its status alone counts
  run('sh', [
    '-c',
    `dpkg-deb --fsys-tarfile '${deb(source)}' | tar -xO ./usr/src/${source}.tar.xz | xz -dc -T0 |` +
      ` tar -x --occurrence=1 --transform='s,.*/,,' -C '${gpio}' ${files.join(' ')}`,
  ])
  for (const name of [debs, unpacked, join(folder, 'apt')]) rmSync(name, { recursive: true, force: true })
}

/** Options for an apt of our own: this release from the mirror that the host's apt uses, and no state of the host's. */
function privateApt(suite, folder) {
  for (const name of ['lists/partial', 'cache/archives/partial']) mkdirSync(join(folder, name), { recursive: true })
  const release = suite.replace('-backports', '')
  const targets = output('apt-get', [
    'indextargets',
    '--format',
    '$(SITE) $(RELEASE) $(COMPONENT)',
    'Created-By: Packages',
  ])
  const site = targets
    .split('\n')
    .find((line) => line.endsWith(` ${release} main`))
    ?.split(' ')[0]
  if (site === undefined) {
    throw new RigError(`apt knows no mirror of ${release}`, 'apt-get update, and look at /etc/apt/sources.list.d')
  }
  const keyring = '/usr/share/keyrings/debian-archive-keyring.gpg'
  writeFileSync(join(folder, 'sources.list'), `deb [arch=amd64 signed-by=${keyring}] ${site} ${suite} main\n`)
  writeFileSync(join(folder, 'status'), '')
  return [
    `Dir::Etc::sourcelist=${join(folder, 'sources.list')}`,
    'Dir::Etc::sourceparts=/nonexistent',
    `Dir::State::lists=${join(folder, 'lists')}`,
    `Dir::State::status=${join(folder, 'status')}`,
    `Dir::Cache=${join(folder, 'cache')}`,
    'APT::Sandbox::User=root',
  ].flatMap((option) => ['-o', option])
}

/** Copies the wanted modules and what they depend on to modules/, and writes the order of their loading. */
function collectModules(tree, mergedTree, folder) {
  const from = existsSync(tree) ? tree : mergedTree
  const paths = new Map(
    readdirSync(from, { recursive: true })
      .filter((path) => /\.ko(\.xz)?$/.test(path))
      .map((path) => [moduleName(path), join(from, path)]),
  )
  const order = []
  const add = (name) => {
    if (order.includes(name)) return
    const path = paths.get(name)
    if (path === undefined)
      throw new RigError(`the kernel has no module ${name}`, 'look at DEBIAN_MODULES in build.mjs')
    const data = path.endsWith('.xz') ? execFileSync('xz', ['-dc', path], { maxBuffer: 64 << 20 }) : readFileSync(path)
    // what modinfo prints as `depends`
    const depends = /\0depends=([^\0]*)\0/.exec(data.toString('latin1'))?.[1] ?? ''
    for (const needed of depends.split(',').filter((one) => one !== '')) add(moduleName(needed))
    writeFileSync(join(folder, 'modules', `${name}.ko`), data)
    order.push(name)
  }
  mkdirSync(join(folder, 'modules'))
  for (const name of DEBIAN_MODULES) add(moduleName(name))
  writeFileSync(join(folder, 'modules/order'), order.map((name) => `${name}.ko\n`).join(''))
}

function moduleName(path) {
  return path
    .replace(/^.*\//, '')
    .replace(/\.ko(\.xz)?$/, '')
    .replaceAll('-', '_')
}

function makeImage(sources, folder, say) {
  say('compiling the modules')
  const work = join(folder, 'modules')
  mkdirSync(work)
  for (const name of readdirSync(join(HERE, 'modules'))) copyFileSync(join(HERE, 'modules', name), join(work, name))
  copyFileSync(join(sources, 'gpio/gpio-sim.c'), join(work, 'gpio-sim.c'))
  writeFileSync(join(work, 'irq_sim.c'), outOfTree(readFileSync(join(sources, 'gpio/irq_sim.c'), 'utf8')))
  const version = readFileSync(join(sources, 'version'), 'utf8')
  const headers = join(sources, 'headers/usr/src')
  const tree = join(headers, `linux-headers-${version}`)
  // as shipped it names /usr/src, where nothing is installed
  const common = join(headers, `linux-headers-${version.replace(/-amd64$/, '-common')}`)
  writeFileSync(join(tree, 'Makefile'), `include ${common}/Makefile\n`)
  run('make', ['-s', '-j2', '-C', tree, `M=${work}`, 'CC=gcc', 'CROSS_COMPILE=', 'modules'])

  const debians = readFileSync(join(sources, 'modules/order'), 'utf8').trimEnd().split('\n')
  const order = [...debians, ...MODULES.map((name) => `${name}.ko`)]
  const entries = [
    { path: 'dev/console', mode: 0o20600, device: [5, 1] },
    { path: 'proc', mode: 0o40755 },
    { path: 'sys', mode: 0o40755 },
    // its name here is what switch_root wants to see
    { path: 'init', mode: 0o100755, data: readFileSync(join(HERE, 'init.sh')) },
    { path: 'run/rig/bin/busybox', mode: 0o100755, data: readFileSync('/bin/busybox') },
    ...APPLETS.map((name) => ({ path: `run/rig/bin/${name}`, mode: 0o120777, data: 'busybox' })),
    { path: 'run/rig/modules/order', mode: 0o100644, data: order.map((name) => `${name}\n`).join('') },
    ...debians.map((name) => moduleEntry(join(sources, 'modules', name), name)),
    ...MODULES.map((name) => moduleEntry(join(work, `${name}.ko`), `${name}.ko`)),
  ]
  writeFileSync(join(folder, 'initrd'), cpio(entries))
  rmSync(work, { recursive: true })
}

function moduleEntry(path, name) {
  return { path: `run/rig/modules/${name}`, mode: 0o100644, data: readFileSync(path) }
}

/**
 * irq_sim.c as a module: irq_to_desc is not exported, and generic_handle_irq does the same here. And where it looks for the
 * next pending line it must begin at the first: begun at the last one found, a line below it that became pending
 * meanwhile is never found and the loop never ends.
 */
function outOfTree(source) {
  const changed = source
    .replace('handle_simple_irq(irq_to_desc(irqnum))', 'generic_handle_irq(irqnum)')
    .replace(/find_next_bit\((work_ctx->pending),\s*(work_ctx->irq_count), offset\)/, 'find_first_bit($1, $2)')
    .replace('#include <linux/irq.h>', '#include <linux/irq.h>\n#include <linux/module.h>')
  if (!changed.includes('generic_handle_irq') || !changed.includes('find_first_bit')) {
    throw new RigError('irq_sim.c is not as expected', 'look at outOfTree in build.mjs')
  }
  return `${changed}\nMODULE_DESCRIPTION("Interrupt simulator");\nMODULE_LICENSE("GPL");\n`
}

/** Fills a folder beside, then moves it: whole or not there, also when two builds meet. */
function wholeOrNot(folder, fill) {
  const beside = `${folder}.${process.pid}`
  mkdirSync(beside, { recursive: true })
  try {
    fill(beside)
    if (!existsSync(folder)) renameSync(beside, folder)
  } finally {
    rmSync(beside, { recursive: true, force: true })
  }
}

function key(parts) {
  const hash = createHash('sha256')
  for (const part of parts) hash.update(part instanceof Function ? String(part) : part).update('\0')
  return hash.digest('hex').slice(0, 16)
}

function run(file, args, options = {}) {
  output(file, args, { ...options, stdio: ['ignore', 'pipe', 'pipe'] })
}

function output(file, args, options = {}) {
  try {
    const env = { ...process.env, LC_ALL: 'C' }
    return execFileSync(file, args, { encoding: 'utf8', maxBuffer: 64 << 20, stdio: 'pipe', env, ...options })
  } catch (error) {
    const text = `${error.stdout ?? ''}${error.stderr ?? ''}`.trim()
    throw new RigError(`${file} ${args.join(' ')} failed: ${text || error.message}`, 'see the message above')
  }
}
