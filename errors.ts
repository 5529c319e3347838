import { createError } from '@fastify/error'

/*
 * Every error of the project, in one table. A code is public API: it is never renamed and never reused.
 * FAE_ERR_<AREA>_<WHAT>. The message says what happened and, where there is something to do, what to do.
 */

// boot: thrown while plugins register
export const FAE_ERR_ALREADY_REGISTERED = createError('FAE_ERR_ALREADY_REGISTERED', "The plugin '%s' is already registered in this app. There is one registry per app: register it once, at the scope where everybody can see it.", 500)
export const FAE_ERR_OPTION_INVALID = createError('FAE_ERR_OPTION_INVALID', "Option '%s' is invalid: %s", 500)
export const FAE_ERR_AUTHENTICATE_MISSING = createError('FAE_ERR_AUTHENTICATE_MISSING', `The option 'authenticate' is required: it says who is asking. Paste and adapt:
  authenticate: async (request) => ({ userId: await yourSessionUserId(request) })
  // return null for nobody: every door answers 401`, 500)
export const FAE_ERR_PACKAGE_MISSING = createError('FAE_ERR_PACKAGE_MISSING', "%s needs the package '%s'. Install it: npm i %s", 500)
export const FAE_ERR_INSPECTOR_FILES = createError('FAE_ERR_INSPECTOR_FILES', "The inspector's file '%s' cannot be read. In a clone, build it first: npm run build", 500)

// events
export const FAE_ERR_EVENT_INVALID = createError('FAE_ERR_EVENT_INVALID', "Event '%s' is invalid at '%s': %s", 400, TypeError)
export const FAE_ERR_EVENT_TYPE = createError('FAE_ERR_EVENT_TYPE', "Events of type '%s' cannot be sent here; allowed: %s. The events of a run come from the run's own ctx.", 400, TypeError)
export const FAE_ERR_EVENT_TOO_LARGE = createError('FAE_ERR_EVENT_TOO_LARGE', "Event '%s' has %d bytes, over maxEventBytes (%d). Send a reference instead of the content, or raise maxEventBytes.", 413)
export const FAE_ERR_EVENT_REDACT = createError('FAE_ERR_EVENT_REDACT', "The option 'redact' failed on an event '%s': %s. The event is refused, nothing of it is stored.", 500)

// threads
export const FAE_ERR_THREAD_ID_INVALID = createError('FAE_ERR_THREAD_ID_INVALID', 'A thread id is a well-formed string of 1 to %d characters without control characters', 400, TypeError)
export const FAE_ERR_THREAD_NOT_FOUND = createError('FAE_ERR_THREAD_NOT_FOUND', "Thread '%s' not found. Register it first: app.threads.register({ userId, threadId }) or POST /threads", 404)
export const FAE_ERR_THREAD_LIMIT = createError('FAE_ERR_THREAD_LIMIT', 'The limit of %d threads per user is reached. Delete threads that are no longer needed.', 429)
export const FAE_ERR_THREAD_BUSY = createError('FAE_ERR_THREAD_BUSY', "Agent '%s' takes one message at a time and is at work in this thread. Wait for its agent_completed or cancel the run.", 409)
export const FAE_ERR_USER_ID_INVALID = createError('FAE_ERR_USER_ID_INVALID', 'A user id is a well-formed string of 1 to %d characters without control characters', 400, TypeError)
export const FAE_ERR_CURSOR_INVALID = createError('FAE_ERR_CURSOR_INVALID', 'The cursor is not one of ours. Use the id of the last event you processed, or none to start from the beginning.', 400, TypeError)
export const FAE_ERR_CURSOR_GONE = createError('FAE_ERR_CURSOR_GONE', 'The position is no longer retained. Drop what you have of this thread and read again from offset -1.', 410)

// runs
export const FAE_ERR_RUN_NOT_FOUND = createError('FAE_ERR_RUN_NOT_FOUND', "Run '%s' not found", 404)
export const FAE_ERR_RUN_ENDED = createError('FAE_ERR_RUN_ENDED', "Run '%s' has ended: nothing follows its agent_completed", 409)
export const FAE_ERR_RUN_STALE = createError('FAE_ERR_RUN_STALE', "Run '%s' was taken over by another process: this one may no longer write to it", 409)
export const FAE_ERR_RUN_HOLE = createError('FAE_ERR_RUN_HOLE', "Run '%s' has a hole in its sequence of appends: expected %d, got %d", 409)
export const FAE_ERR_RUN_STATE = createError('FAE_ERR_RUN_STATE', "Run '%s' is %s: %s", 409)
export const FAE_ERR_RUN_UNREACHABLE = createError('FAE_ERR_RUN_UNREACHABLE', "The process that runs '%s' did not answer. If it is gone the run ends as lost; try again.", 503)
export const FAE_ERR_RUN_EXISTS = createError('FAE_ERR_RUN_EXISTS', "Run '%s' exists already", 409)
export const FAE_ERR_RUN_LIMIT = createError('FAE_ERR_RUN_LIMIT', 'The limit of %d live runs per user is reached. Wait for one to end or cancel one.', 429)
export const FAE_ERR_RUN_QUEUE_FULL = createError('FAE_ERR_RUN_QUEUE_FULL', 'The limit of %d waiting runs per thread is reached. Wait for one to end or cancel one.', 429)
export const FAE_ERR_RUN_FAILED = createError('FAE_ERR_RUN_FAILED', "Agent '%s' failed: %s", 500)
export const FAE_ERR_RUN_CANCELLED = createError('FAE_ERR_RUN_CANCELLED', "The run of agent '%s' was cancelled: %s", 499)
export const FAE_ERR_RUN_TIMEOUT = createError('FAE_ERR_RUN_TIMEOUT', "The run of agent '%s' took longer than %d ms", 504)
export const FAE_ERR_SERVER_CLOSING = createError('FAE_ERR_SERVER_CLOSING', 'The server is shutting down. Connect again and send it once more.', 503)
export const FAE_ERR_RUN_LOST = createError('FAE_ERR_RUN_LOST', "The process that ran agent '%s' is gone", 500)
export const FAE_ERR_RUN_OVERFLOW = createError('FAE_ERR_RUN_OVERFLOW', "Agent '%s' emits faster than the store takes it (%d events, %d bytes waiting). Await ctx.say, ctx.think and ctx.emit: awaiting is the backpressure.", 500)

// agents
export const FAE_ERR_AGENT_INVALID = createError('FAE_ERR_AGENT_INVALID', "Agent definition '%s' is invalid: %s", 500, TypeError)
export const FAE_ERR_AGENT_DUPLICATE = createError('FAE_ERR_AGENT_DUPLICATE', "Another agent is already registered as '%s'. Names are unique; one definition may be used in many places.", 500)
export const FAE_ERR_AGENT_NOT_FOUND = createError('FAE_ERR_AGENT_NOT_FOUND', "Unknown agent '%s'. Known agents: %s", 404)
export const FAE_ERR_AGENT_INPUT = createError('FAE_ERR_AGENT_INPUT', "Input of agent '%s' is invalid at '%s': %s", 400, TypeError)
export const FAE_ERR_AGENT_OUTPUT = createError('FAE_ERR_AGENT_OUTPUT', "Result of agent '%s' is invalid at '%s': %s", 500, TypeError)
export const FAE_ERR_NOTIFIER_MISSING = createError('FAE_ERR_NOTIFIER_MISSING', 'A run needs a notifier, otherwise nobody would see it. Register fastify-agent-events/websocket-notifier, or call setNotifier.', 500)
export const FAE_ERR_NOTIFIER_SET = createError('FAE_ERR_NOTIFIER_SET', 'Another notifier is already set. There is one per app; a second one would split the stream of events.', 500)

// tools
export const FAE_ERR_TOOL_INVALID = createError('FAE_ERR_TOOL_INVALID', "Tool definition '%s' is invalid: %s", 500, TypeError)
export const FAE_ERR_TOOL_DUPLICATE = createError('FAE_ERR_TOOL_DUPLICATE', "Another tool is already registered as '%s'. Names are unique; one tool object may serve many agents.", 500)
export const FAE_ERR_TOOL_CALL_DUPLICATE = createError('FAE_ERR_TOOL_CALL_DUPLICATE', "A call with toolCallId '%s' is under way in this run. Ids of calls are unique within a run.", 409)
export const FAE_ERR_TOOL_CALL_OVER = createError('FAE_ERR_TOOL_CALL_OVER', "The call '%s' has its tool_completed: nothing follows it", 409)
export const FAE_ERR_TOOL_NOT_FOUND = createError('FAE_ERR_TOOL_NOT_FOUND', "Unknown tool '%s'. Known tools: %s", 404)
export const FAE_ERR_TOOL_INPUT = createError('FAE_ERR_TOOL_INPUT', "Arguments of tool '%s' are invalid at '%s': %s", 400, TypeError)
export const FAE_ERR_TOOL_OUTPUT = createError('FAE_ERR_TOOL_OUTPUT', "Output of tool '%s' is invalid at '%s': %s", 500, TypeError)
export const FAE_ERR_TOOL_FAILED = createError('FAE_ERR_TOOL_FAILED', "Tool '%s' failed: %s", 500)
export const FAE_ERR_TOOL_TIMEOUT = createError('FAE_ERR_TOOL_TIMEOUT', "Tool '%s' took longer than %d ms", 504)
export const FAE_ERR_TOOL_CANCELLED = createError('FAE_ERR_TOOL_CANCELLED', "Tool '%s' was cancelled with its run", 499)

// doors
export const FAE_ERR_UNAUTHENTICATED = createError('FAE_ERR_UNAUTHENTICATED', 'Not authenticated', 401)
export const FAE_ERR_FORBIDDEN = createError('FAE_ERR_FORBIDDEN', 'Not allowed', 403)
export const FAE_ERR_ORIGIN = createError('FAE_ERR_ORIGIN', "Pages of this origin may not connect. The server's option 'origins' lists those that may.", 403)
export const FAE_ERR_BAD_REQUEST = createError('FAE_ERR_BAD_REQUEST', '%s', 400)
export const FAE_ERR_FRAME_INVALID = createError('FAE_ERR_FRAME_INVALID', "The frame is invalid at '%s': %s", 400, TypeError)
export const FAE_ERR_NOT_SUBSCRIBED = createError('FAE_ERR_NOT_SUBSCRIBED', "This connection is not subscribed to thread '%s'", 409)
export const FAE_ERR_ACK_AHEAD = createError('FAE_ERR_ACK_AHEAD', 'The acknowledged cursor was never sent on this subscription', 400)
export const FAE_ERR_SUBSCRIPTION_LIMIT = createError('FAE_ERR_SUBSCRIPTION_LIMIT', 'The limit of %d subscriptions per connection is reached. Unsubscribe from threads that are no longer shown.', 429)
export const FAE_ERR_CONNECTION_LIMIT = createError('FAE_ERR_CONNECTION_LIMIT', 'The limit of %d connections per user is reached', 429)

// the client, which takes only the codes from here and says them itself
export const FAE_ERR_CLIENT_CLOSED = createError('FAE_ERR_CLIENT_CLOSED', 'The client is closed', 499)
export const FAE_ERR_CLIENT_HOLE = createError('FAE_ERR_CLIENT_HOLE', 'Events are missing between %d and %d', 500)

// what older registries leave behind
export const FAE_ERR_COMPAT_HOST = createError('FAE_ERR_COMPAT_HOST', 'fastify-agent-events/compat cannot work with this app: %s', 500)
export const FAE_ERR_LEGACY_MESSAGE = createError('FAE_ERR_LEGACY_MESSAGE', 'A legacy message is an object with a type, for a thread, a run or a user: %s', 400, TypeError)

// the store
export const FAE_ERR_STORE_CLOSED = createError('FAE_ERR_STORE_CLOSED', 'The store is closed', 503)
export const FAE_ERR_STORE_UNAVAILABLE = createError('FAE_ERR_STORE_UNAVAILABLE', 'The store is not available: %s', 503)
export const FAE_ERR_STORE_FOLDER = createError('FAE_ERR_STORE_FOLDER', "The store cannot use the folder '%s': %s", 500)
export const FAE_ERR_STORE_LOCKED = createError('FAE_ERR_STORE_LOCKED', "The folder '%s' is in use by another process. One process works on a folder at a time: stop it, or give this one a folder of its own.", 500)
export const FAE_ERR_STORE_FORMAT = createError('FAE_ERR_STORE_FORMAT', "The data in '%s' has format %d; this version knows formats up to %d. Use the version that wrote it, or a newer one.", 500)
export const FAE_ERR_IMPORT_LINE = createError('FAE_ERR_IMPORT_LINE', 'Line %d of the import is refused: %s. Nothing was imported.', 400)

export const FAE_ERR_INTERNAL = createError('FAE_ERR_INTERNAL', 'Internal error', 500)
