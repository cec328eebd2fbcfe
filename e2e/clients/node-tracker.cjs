// Sends two events with Snowplow's Node tracker to the collector named by argument.
const { newTracker, buildPageView, buildStructEvent } = require('@snowplow/node-tracker');

const endpoint = process.argv[2];
const tracker = newTracker(
  { namespace: 'n', appId: 'node', encodeBase64: true },
  { endpoint, eventMethod: 'post', bufferSize: 1 },
);
tracker.setUserId('alice');
tracker.track(buildPageView({ pageUrl: 'http://www.example.com/item/9', pageTitle: 'Nine' }));
tracker.track(buildStructEvent({ category: 'c', action: 'a', value: 2 }));
tracker.flush();
