import t from 'tap'
import { storeConformance } from '../../../plugins/store/conformance.js'
import { redisSetup } from '../../support/redis-store.js'

storeConformance((name, fn) => t.test(name, async (t) => { await fn(); t.pass() }), redisSetup(t))
