curl -s localhost:3000/agent-events/threads -H 'content-type: application/json' -d '{ "threadId": "t1" }'
curl -s localhost:3000/agent-events/threads/t1/messages -H 'content-type: application/json' -d '{ "content": "How do returns work?" }'
curl -s localhost:3000/agent-events/threads/t1/events
