//! hyper over loopback, with and without the layer.
