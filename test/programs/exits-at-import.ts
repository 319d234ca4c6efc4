import { robot } from 'medulla'

robot({ led: 'output', enable: 'output' }, ({ led, every }) => every(10, () => led.write(1)))

if (process.env.LANG !== undefined) process.exit(0)
