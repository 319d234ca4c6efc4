/** Part of the build: compiled files become few files. Needs the packages, so run.mjs loads it when they are installed. */
import { dirname, join, relative, resolve } from 'node:path'
import { build as bundle } from 'esbuild'
import { listRuntime } from './runtimefiles.mjs'

/** @param {string} dist folder of the compiled files, which are replaced */
export async function bundleDist(dist) {
  await bundleCli(dist)
  await bundleRuntime(dist)
  await bundleLibraries(dist)
}

/**
 * The command line as few files: opening 40 modules one after the other would cost each push 15 ms. What a command does
 * not need stays apart, and what is heavy or native stays in its package.
 */
async function bundleCli(dist) {
  const cli = join(dist, 'deploy/laptop/cli')
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
    // the library for bills of materials asks for these, if they are installed, to write XML and to validate
    external: ['esbuild', 'xmlbuilder2', 'libxmljs2', 'ajv', 'ajv-formats', 'ajv-formats-draft2019'],
    logLevel: 'warning',
    banner: {
      js: [
        '/*! holds commander, chokidar, multicast-dns, dns-packet, tar-stream, @noble/ciphers, @noble/curves, @jridgewell/sourcemap-codec, acorn, tinyglobby (MIT), @cyclonedx/cyclonedx-library (Apache-2.0), eslint-scope and age-encryption (BSD), see their packages for who owns them */',
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
  const runtime = join(dist, 'runtime')
  const entries = [
    'main',
    'endpoint/main',
    'endpoint/opener-thread',
    'body/pairing/codeworker',
    'body/sandbox/hangworker',
    'store/verifierworker',
    'sdk/loader',
    'guard/main',
    'card/main',
  ]
  const { metafile } = await bundle({
    entryPoints: entries.map((name) => join(runtime, `${name}.js`)),
    metafile: true,
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
        '/*! holds express, pino, zod, dns-packet, tar-stream, @noble/curves, age-encryption and smol-toml (BSD) and what they need; else MIT or ISC, see their packages */',
        "import{createRequire as medullaRequire}from'node:module';const require=medullaRequire(import.meta.url);",
      ].join('\n'),
    },
  })
  await listRuntime(dist, Object.keys(metafile.outputs))
}

/**
 * What other programs import and needs packages: `medulla/test` and `medulla/client`. The files of `medulla` and
 * `medulla/drivers` need none, and stay as they are: a program and its test must have the same ones.
 */
async function bundleLibraries(dist) {
  const options = {
    bundle: true,
    format: 'esm',
    platform: 'node',
    target: 'node20',
    external: ['esbuild'],
    logLevel: 'warning',
  }
  const publicEntries = ['runtime/sdk/index.js', 'drivers/index.js'].map((name) => join(dist, name))
  const { metafile } = await bundle({
    ...options,
    entryPoints: publicEntries,
    outdir: dist,
    outbase: dist,
    write: false,
    metafile: true,
  })
  const shared = new Set(Object.keys(metafile.inputs).map((path) => resolve(path)))
  for (const name of ['runtime/testkit/index.js', 'deploy/laptop/connect.js']) {
    const outfile = join(dist, name)
    const keepShared = {
      name: 'keep-shared',
      setup(build) {
        build.onResolve({ filter: /^\./ }, ({ path, resolveDir }) => {
          const file = resolve(resolveDir, path)
          if (!shared.has(file)) return undefined
          return { path: `./${relative(dirname(outfile), file)}`.replaceAll('\\', '/'), external: true }
        })
      },
    }
    const banner = {
      js: [
        '/*! holds zod and @noble/ciphers (MIT), see their packages for who owns them */',
        "import{createRequire as medullaRequire}from'node:module';const require=medullaRequire(import.meta.url);",
      ].join('\n'),
    }
    const plugins = name.startsWith('runtime') ? [keepShared] : []
    await bundle({ ...options, entryPoints: [outfile], outfile, allowOverwrite: true, plugins, banner })
  }
}
