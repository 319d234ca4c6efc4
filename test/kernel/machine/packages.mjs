import { existsSync, readFileSync } from 'node:fs'

const release = existsSync('/etc/os-release') ? readFileSync('/etc/os-release', 'utf8') : ''
/** The package was renamed in Debian 13. */
const LIBELF = /^VERSION_CODENAME=bookworm$/m.test(release) ? 'libelf1' : 'libelf1t64'

/** Debian packages of the host: for either machine, for QEMU, and to build a user-mode kernel. */
const PACKAGES = {
  /** bubblewrap also confines programs in the tests; gcc compiles a hostile one. */
  uml: ['bubblewrap', 'busybox-static', 'gcc'],
  qemu: ['debian-archive-keyring', LIBELF, 'make', 'qemu-system-x86', 'xz-utils'],
  build: ['bc', 'bison', 'debian-archive-keyring', 'flex', 'make', 'xz-utils'],
}

/** @param {('uml' | 'qemu' | 'build')[]} uses @returns {string[]} their packages, each once; of all uses without any */
export function packages(...uses) {
  const wanted = uses.length === 0 ? Object.keys(PACKAGES) : ['uml', ...uses]
  return [...new Set(wanted.flatMap((use) => PACKAGES[use]))].sort()
}
