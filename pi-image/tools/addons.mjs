/**
 * Compiles the addons of npm packages with Debian's compiler for the target, against the headers of the Node.js that Debian 13
 * has: an addon made with nan belongs to one major version of Node.js.
 */
import { existsSync, mkdirSync, renameSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { debianRelease, PrivateApt } from './debian.mjs'
import { BuildError } from './error.mjs'
import { cacheFolder, key, output, run, wholeOrNot } from './exec.mjs'

const SUITE = 'trixie'

/** nan includes uv.h. */
const HEADER_PACKAGES = ['libnode-dev', 'libuv1-dev']

/** npm packages with an addon that npm compiles, and its name; koffi and esbuild come compiled. */
const ADDONS = { epoll: 'epoll', 'i2c-bus': 'i2c' }

/**
 * @param {string} library folder with node_modules
 * @param {{ architecture: string, node: string, prefix: string }} target its names at Debian and Node, the prefix of its tools
 */
export async function compileAddons(library, { architecture, node, prefix }) {
  const headers = await headersOf(architecture)
  const gyp = nodeGyp()
  for (const [name, addon] of Object.entries(ADDONS)) {
    const folder = join(library, 'node_modules', name)
    const flags = `-O2 -g0 -ffile-prefix-map=${library}=. -I${headers}/include`
    const env = {
      ...process.env,
      LC_ALL: 'C',
      CC: `${prefix}gcc`,
      CXX: `${prefix}g++`,
      AR: `${prefix}ar`,
      CFLAGS: flags,
      CXXFLAGS: flags,
      // a build id would come from the paths of the object files
      LDFLAGS: '-Wl,--build-id=none',
    }
    run(process.execPath, [gyp, 'rebuild', `--arch=${node}`, `--nodedir=${headers}`, '--silent'], { cwd: folder, env })
    const built = join(folder, `build/Release/${addon}.node`)
    run(`${prefix}strip`, ['--strip-unneeded', built])
    keepOnly(folder, built, addon)
  }
}

function keepOnly(folder, built, addon) {
  const kept = join(folder, `${addon}.node.kept`)
  renameSync(built, kept)
  rmSync(join(folder, 'build'), { recursive: true })
  mkdirSync(join(folder, 'build/Release'), { recursive: true })
  renameSync(kept, join(folder, `build/Release/${addon}.node`))
}

/** Downloads and unpacks the headers, once. @returns {Promise<string>} what node-gyp calls nodedir */
async function headersOf(architecture) {
  const folder = join(cacheFolder('medulla'), `headers-${key([SUITE, architecture, ...HEADER_PACKAGES])}`)
  await wholeOrNot(folder, (beside) => {
    const apt = new PrivateApt(SUITE, join(beside, 'apt'), debianRelease(['bookworm', 'trixie']), architecture)
    const deb = apt.download(HEADER_PACKAGES, join(beside, 'debs'))
    for (const name of HEADER_PACKAGES) run('dpkg-deb', ['-x', deb(name), beside])
    for (const name of ['apt', 'debs', 'usr/lib', 'usr/share'])
      rmSync(join(beside, name), { recursive: true, force: true })
  })
  return join(folder, 'usr')
}

/** npm brings node-gyp; Debian has it as a package. */
function nodeGyp() {
  const npms = join(output('npm', ['root', '--global']).trim(), 'npm/node_modules/node-gyp/bin/node-gyp.js')
  const found = [npms, '/usr/share/nodejs/node-gyp/bin/node-gyp.js'].find((path) => existsSync(path))
  if (found === undefined) throw new BuildError('there is no node-gyp', 'apt-get install node-gyp')
  return found
}
