"""Sound as the builder and the upsampler both need it: decoded, resampled, measured."""
