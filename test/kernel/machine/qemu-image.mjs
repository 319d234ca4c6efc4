/**
 * Makes what QEMU boots: Debian's own 6.12 kernel, and an initial RAM disk with Debian's modules, those in modules/ and
 * gpio-sim, which Debian's kernel lacks and whose source Debian ships. Nothing is installed: packages are unpacked into
 * the cache. What is fetched is kept by Debian release; the rest is made anew when a file of it changes.
 */
import { execFileSync } from 'node:child_process'
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
import { debianRelease, PrivateApt, requirePackages } from '../../../pi-image/tools/debian.mjs'
import { BuildError } from '../../../pi-image/tools/error.mjs'
import { cacheFolder, key, run, wholeOrNot } from '../../../pi-image/tools/exec.mjs'
import { cpio } from './cpio.mjs'
import { packages } from './packages.mjs'

const HERE = fileURLToPath(new URL('.', import.meta.url))
const MODULE_SOURCES = join(HERE, '../modules')

/** Where each release of Debian has 6.12, built with its own compiler and C library. */
const SUITES = { bookworm: 'bookworm-backports', trixie: 'trixie' }

/** Of Debian's modules, those that the rig needs, without what they depend on; then ours, in the order of their loading. */
const DEBIAN_MODULES = ['9pnet_virtio', '9p', 'overlay', 'configfs', 'i2c-dev', 'virtio_net']
const MODULES = ['irq_sim', 'gpio-sim', 'medulla_i2c', 'medulla_pwm', 'medulla_spi']

/**
 * @param {(text: string) => void} say called with a text about each step
 * @returns {Promise<{ kernel: string, initrd: string }>} the files to boot, made now or before
 * @throws {BuildError} when something is missing or fails, with what to do
 */
export async function buildQemuImage(say) {
  const release = debianRelease(Object.keys(SUITES))
  const sources = join(cacheFolder('medulla-rig'), `debian-${key([SUITES[release], ...DEBIAN_MODULES, fetchDebian])}`)
  const inputs = readdirSync(MODULE_SOURCES).map((name) => join(MODULE_SOURCES, name))
  const names = [...['qemu-image.mjs', 'cpio.mjs'].map((name) => join(HERE, name)), ...inputs.sort()]
  const image = join(cacheFolder('medulla-rig'), `image-${key([sources, ...names.map((name) => readFileSync(name))])}`)
  const files = { kernel: join(sources, 'vmlinuz'), initrd: join(image, 'initrd') }
  if (existsSync(files.initrd) && existsSync(files.kernel)) return files
  requirePackages(packages('qemu'))
  await wholeOrNot(sources, (folder) => fetchDebian(release, folder, say))
  await wholeOrNot(image, (folder) => makeImage(sources, folder, say))
  return files
}

/** Fills the folder with vmlinuz, modules/, headers/ and gpio/ (the sources of gpio-sim). */
function fetchDebian(release, folder, say) {
  const suite = SUITES[release]
  say(`fetching the 6.12 kernel of ${suite}`)
  const apt = new PrivateApt(suite, join(folder, 'apt'), release)
  const [image, source] = ['linux-image-amd64', 'linux-source'].map((name) => apt.dependency(name))
  const version = image.slice('linux-image-'.length)
  const base = version.replace(/-amd64$/, '')
  const wanted = [image, `linux-headers-${version}`, `linux-headers-${base}-common`, `linux-kbuild-${base}`, source]
  const debs = join(folder, 'debs')
  const deb = apt.download(wanted, debs)

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
      throw new BuildError(`the kernel has no module ${name}`, 'look at DEBIAN_MODULES in qemu-image.mjs')
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
  for (const name of readdirSync(MODULE_SOURCES)) copyFileSync(join(MODULE_SOURCES, name), join(work, name))
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
    { path: 'mods/order', mode: 0o100644, data: order.map((name) => `${name}\n`).join('') },
    ...debians.map((name) => moduleEntry(join(sources, 'modules', name), name)),
    ...MODULES.map((name) => moduleEntry(join(work, `${name}.ko`), `${name}.ko`)),
  ]
  writeFileSync(join(folder, 'initrd'), cpio(entries))
  rmSync(work, { recursive: true })
}

function moduleEntry(path, name) {
  return { path: `mods/${name}`, mode: 0o100644, data: readFileSync(path) }
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
    throw new BuildError('irq_sim.c is not as expected', 'look at outOfTree in qemu-image.mjs')
  }
  return `${changed}\nMODULE_DESCRIPTION("Interrupt simulator");\nMODULE_LICENSE("GPL");\n`
}
