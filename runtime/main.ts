#!/usr/bin/env node
/**
 * The runtime's bin, started by systemd on a robot and by `medulla sim` on a laptop. It takes the signals, and then loads the
 * rest: commandline.ts.
 */
import { takeSignals } from './signals.ts'

takeSignals()
await import('./commandline.ts')
