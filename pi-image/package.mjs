/**
 * Makes the Debian package of Medulla: `npm run package [-- --arch arm64|amd64] [--out DIR]`, both architectures by default.
 *
 *   node pi-image/package.mjs packages    lists the packages of the host that this needs
 *
 * The package holds the content of the npm package below /usr/lib/medulla, with its production dependencies compiled:
 * nothing is compiled or downloaded on the robot. dpkg-deb makes the file, as it makes Debian's own packages: it is on every
 * Debian system, and with SOURCE_DATE_EPOCH the same input gives the same bytes.
 */
import {
  chmodSync,
  copyFileSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join, resolve } from 'node:path'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'
import { gzipSync } from 'node:zlib'
import { compileAddons } from './tools/addons.mjs'
import { requireCompiled, runTool, sayAs } from './tools/command.mjs'
import { requirePackages } from './tools/debian.mjs'
import { BuildError } from './tools/error.mjs'
import { output, run, sourceDate } from './tools/exec.mjs'

const ROOT = fileURLToPath(new URL('..', import.meta.url))
const HERE = fileURLToPath(new URL('.', import.meta.url))

/** By Debian's name of an architecture: Node's name, and Debian's compiler for it (on an amd64 host). */
const ARCHITECTURES = {
  amd64: { node: 'x64', compiler: 'g++', prefix: 'x86_64-linux-gnu-' },
  arm64: { node: 'arm64', compiler: 'g++-aarch64-linux-gnu', prefix: 'aarch64-linux-gnu-' },
}

export const PACKAGES = [
  'debian-archive-keyring',
  'dpkg-dev',
  'make',
  'python3',
  ...Object.values(ARCHITECTURES).map(({ compiler }) => compiler),
]

const LIBRARY = 'usr/lib/medulla'
const MAINTAINER = 'Medulla contributors <medulla@localhost>'

/** pigpio needs a C library that Debian does not have. */
const LEFT_OUT = ['pigpio']

/** The only files that a package with an addon needs when it runs; sources and build files stay out of the package. */
const KEPT = {
  epoll: ['package.json', 'LICENSE', 'epoll.js', 'build'],
  'i2c-bus': ['package.json', 'LICENSE', 'i2c-bus.js', 'build'],
  koffi: ['package.json', 'LICENSE.txt', 'index.cjs', 'index.js', 'index.d.ts', 'indirect.cjs', 'indirect.js', 'src'],
  onoff: ['package.json', 'LICENSE', 'onoff.js', 'onoff.d.ts'],
}

/** koffi for another C library, sources that are compiled, and what authors leave in their packages. */
const SURPLUS =
  /^@koromix\/[^/]+\/musl_\w+$|(?:^|\/)(?:\.npmignore|\.travis\.yml|test|CMakeLists\.txt)$|\.(?:cc|hh|inc|S|asm|def)$/

/**
 * @param {'amd64' | 'arm64'} architecture
 * @param {string} out folder of the package
 * @param {(text: string) => void} say called with a text about each step
 * @returns {Promise<string>} the package's file
 * @throws {BuildError} when a tool is missing or fails, with what to do
 */
export async function makePackage(architecture, out, say) {
  requirePackages(PACKAGES)
  const { version } = JSON.parse(readFileSync(join(ROOT, 'package.json'), 'utf8'))
  const work = mkdtempSync(join(tmpdir(), 'medulla-deb-'))
  try {
    const tree = join(work, 'tree')
    say(`${architecture}: packing`)
    unpackNpmPackage(work, join(tree, LIBRARY))
    installDependencies(join(tree, LIBRARY), architecture)
    say(`${architecture}: compiling the addons`)
    await compileAddons(join(tree, LIBRARY), { architecture, ...ARCHITECTURES[architecture] })
    prune(join(tree, LIBRARY))
    await addSystemFiles(tree, version)
    writeControl(tree, architecture, version)
    setModes(tree)
    mkdirSync(out, { recursive: true })
    const file = join(out, `medulla_${version}_${architecture}.deb`)
    const env = { ...process.env, LC_ALL: 'C', SOURCE_DATE_EPOCH: String(sourceDate(ROOT)) }
    run('dpkg-deb', ['--build', '--root-owner-group', '-Zxz', tree, `${file}.part`], { env })
    renameSync(`${file}.part`, file)
    return file
  } finally {
    rmSync(work, { recursive: true, force: true })
  }
}

/** `npm pack` decides which files are in the package, here as for npm. */
function unpackNpmPackage(work, library) {
  run('npm', ['pack', '--ignore-scripts', '--silent', '--pack-destination', work], { cwd: ROOT })
  const tarball = readdirSync(work).find((name) => name.endsWith('.tgz'))
  mkdirSync(library, { recursive: true })
  run('tar', ['-xzf', join(work, tarball), '--strip-components=1', '--no-same-owner', '-C', library])
}

/** The versions of the lock file, for the other architecture where it is one. */
function installDependencies(library, architecture) {
  copyFileSync(join(ROOT, 'package-lock.json'), join(library, 'package-lock.json'))
  const target = ['--os=linux', `--cpu=${ARCHITECTURES[architecture].node}`, '--libc=glibc']
  run('npm', ['ci', '--omit=dev', '--ignore-scripts', '--no-audit', '--no-fund', ...target], { cwd: library })
  rmSync(join(library, 'package-lock.json'))
  // names what npm installed, and when
  rmSync(join(library, 'node_modules/.package-lock.json'), { force: true })
}

function prune(library) {
  const modules = join(library, 'node_modules')
  for (const name of [...LEFT_OUT, 'nan', '.bin']) rmSync(join(modules, name), { recursive: true, force: true })
  for (const [name, kept] of Object.entries(KEPT)) {
    for (const entry of readdirSync(join(modules, name))) {
      if (!kept.includes(entry)) rmSync(join(modules, name, entry), { recursive: true })
    }
  }
  for (const entry of readdirSync(modules, { recursive: true })) {
    if (SURPLUS.test(entry)) rmSync(join(modules, entry), { recursive: true, force: true })
  }
  rmSync(join(library, 'runtime'), { recursive: true })
}

async function addSystemFiles(tree, version) {
  // compiled from runtime/install/units.ts: the texts that `medulla install` writes
  const { GROUPS, RULES } = await import('../dist/runtime/install/units.js')
  const put = (path, text) => {
    mkdirSync(dirname(join(tree, path)), { recursive: true })
    writeFileSync(join(tree, path), text)
  }
  mkdirSync(join(tree, 'usr/bin'), { recursive: true })
  symlinkSync('../lib/medulla/dist/deploy/laptop/cli/main.js', join(tree, 'usr/bin/medulla'))
  for (const name of ['medulla.service', 'medulla.socket', 'medulla-discovery.socket']) {
    const unit = readFileSync(join(ROOT, 'runtime', name), 'utf8')
    put(`usr/lib/systemd/system/${name}`, unit.replaceAll('/usr/local/lib/node_modules/medulla', `/${LIBRARY}`))
  }
  put('usr/lib/udev/rules.d/60-medulla.rules', RULES)
  put('usr/lib/sysusers.d/medulla.conf', GROUPS)
  put('usr/share/doc/medulla/copyright', copyright())
  put('usr/share/doc/medulla/changelog.gz', gzipSync(changelog(version), { level: 9 }))
  put('usr/share/doc/medulla/NEWS.md.gz', gzipSync(readFileSync(join(ROOT, 'CHANGELOG.md')), { level: 9 }))
}

/** In Debian's format, for Debian's tools: one entry, which names the file for people. */
function changelog(version) {
  const date = new Date(sourceDate(ROOT) * 1000).toUTCString().replace('GMT', '+0000')
  const text = '  * What changed is in NEWS.md.gz.'
  return `medulla (${version}) trixie; urgency=medium\n\n${text}\n\n -- ${MAINTAINER}  ${date}\n`
}

/** In Debian's format: our licence, and where those of the packages in node_modules are. */
function copyright() {
  const licence = readFileSync(join(ROOT, 'LICENSE'), 'utf8').trim()
  const [, holders] = /^Copyright (?:\(c\) )?(.*)$/m.exec(licence) ?? []
  const text = licence.split('\n').map((line) => (line.trim() === '' ? ' .' : ` ${line}`))
  return `${[
    'Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/',
    'Upstream-Name: medulla',
    `Comment: the licence of each package below /${LIBRARY}/node_modules is in that package's folder`,
    '',
    'Files: *',
    `Copyright: ${holders}`,
    'License: MIT',
    ...text,
  ].join('\n')}\n`
}

function writeControl(tree, architecture, version) {
  const control = join(tree, 'DEBIAN')
  mkdirSync(control)
  const files = regularFiles(tree).filter((path) => !path.startsWith('DEBIAN/'))
  const kilobytes = files.reduce((sum, path) => sum + Math.ceil(statSync(join(tree, path)).size / 1024), 0)
  const template = readFileSync(join(HERE, 'debian/control'), 'utf8')
  const values = { VERSION: version, ARCHITECTURE: architecture, SIZE: String(kilobytes), MAINTAINER }
  writeFileSync(
    join(control, 'control'),
    template.replaceAll(/@([A-Z]+)@/g, (_, name) => values[name]),
  )
  for (const name of ['postinst', 'prerm', 'postrm']) copyFileSync(join(HERE, 'debian', name), join(control, name))
  const sums = output('md5sum', ['--', ...files], { cwd: tree })
  writeFileSync(join(control, 'md5sums'), sums)
}

/** @returns {string[]} sorted paths without the folder's own */
function regularFiles(folder) {
  return readdirSync(folder, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => join(entry.parentPath ?? entry.path, entry.name).slice(folder.length + 1))
    .sort()
}

/** The modes of the checkout and of npm's cache depend on the umask of their users. */
function setModes(tree) {
  for (const entry of readdirSync(tree, { recursive: true, withFileTypes: true })) {
    const path = join(entry.parentPath ?? entry.path, entry.name)
    if (entry.isDirectory()) chmodSync(path, 0o755)
    else if (entry.isFile()) chmodSync(path, isProgram(path) ? 0o755 : 0o644)
  }
  chmodSync(tree, 0o755)
}

function isProgram(path) {
  if (/\/DEBIAN\/p(?:ost|re)(?:inst|rm)$/.test(path)) return true
  return path.endsWith('/bin/esbuild') || (path.endsWith('.js') && readFileSync(path, 'latin1').startsWith('#!'))
}

const say = sayAs('package')

async function main(args) {
  const { values } = parseArgs({
    args,
    options: { arch: { type: 'string', multiple: true }, out: { type: 'string', default: 'dist/deb' } },
  })
  const out = resolve(ROOT, values.out)
  for (const architecture of values.arch ?? Object.keys(ARCHITECTURES)) {
    if (!Object.hasOwn(ARCHITECTURES, architecture)) {
      throw new BuildError(`expected arm64 or amd64 after --arch, got ${architecture}`)
    }
    requireCompiled(join(ROOT, 'dist/runtime/main.js'), 'npm run package')
    const file = await makePackage(architecture, out, say)
    process.stdout.write(`${file}\n`)
    say(`${(statSync(file).size / 1e6).toFixed(1)} MB, ${output('sha256sum', [file]).slice(0, 64)}`)
  }
}

await runTool(import.meta.url, { say, packages: PACKAGES, main })
