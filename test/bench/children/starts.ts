/** Ends at once. With the argument `koffi` it loads it first, as a loader does, and says how many ms that took. */
if (process.argv[2] === 'koffi') {
  const began = performance.now()
  ;(await import('../../../drivers/owner/linux/system.ts')).loadSystem()
  process.stdout.write(String(performance.now() - began))
}

export {}
